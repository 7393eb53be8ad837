//! The request that a caller wants to make.

use http::HeaderMap;

use crate::access::{Path, Request};

/// The request that a caller wants to make. A part that the proxy does not name clearly is `None`.
pub struct Requested<'a> {
    /// The method. `None`: not known.
    pub method: Option<String>,
    /// The target: a path with its query, or a whole URI. `None`: not known.
    pub target: Option<String>,
    /// The headers that the proxy passes on.
    pub headers: &'a HeaderMap,
}

impl Requested<'_> {
    /// The request in the form that the `access` module judges.
    pub fn request(&self) -> Request<'_> {
        let known = self.method.as_deref().zip(self.target.as_deref());
        let path = known.and_then(|(_, target)| Path::parse(target).ok());
        let query = self.target.as_deref().and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
        Request { method: self.method.as_deref().unwrap_or_default(), path, query, headers: self.headers }
    }
}
