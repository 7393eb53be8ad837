//! The request that a caller wants to make.

use http::HeaderMap;

use crate::{
    access::{Path, Request, bare_path, cut},
    crd::guarding::PROBE,
};

/// The request that a caller wants to make. A part that the proxy does not name clearly is `None`.
pub struct Requested<'a> {
    /// The method. `None`: not known.
    pub method: Option<&'a str>,
    /// The target: a path with its query, or a whole URI. `None`: not known.
    pub target: Option<&'a str>,
    /// The headers that the proxy passes on.
    pub headers: &'a HeaderMap,
}

impl Requested<'_> {
    /// True if the request is for the path that tests a guard, with or without a query. Each letter of the path counts.
    /// The method may be any, but the proxy has to name it. Otherwise the guard is not in order.
    pub fn is_probe(&self) -> bool {
        self.method.is_some() && self.target.is_some_and(|target| bare_path(target) == Ok(PROBE))
    }

    /// True if the proxy does not name the method or the target clearly.
    pub fn is_unnamed(&self) -> bool {
        self.method.is_none() || self.target.is_none()
    }

    /// The request in the form that the `access` module judges.
    pub fn request(&self) -> Request<'_> {
        let known = self.method.zip(self.target);
        Request { path: known.and_then(|(_, target)| Path::parse(target).ok()), ..self.pathless() }
    }

    /// The same request without its path, for an Instance whose rules do not depend on that.
    pub fn pathless(&self) -> Request<'_> {
        let query = cut(self.target.unwrap_or_default(), b'?').1.unwrap_or_default();
        Request { method: self.method.unwrap_or_default(), path: None, query, headers: self.headers }
    }
}
