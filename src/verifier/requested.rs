//! The request that a caller wants to make.

use http::HeaderMap;

use super::Cause;
use crate::{
    access::{Ground, Path, Request, bare_path, cut},
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

    /// The request in the form that the `access` module judges. A request that the proxy does not name has no path, as
    /// one whose path cannot be read. `cause` tells them apart.
    pub fn request(&self) -> Request<'_> {
        Request { path: self.named().and_then(|target| Path::parse(target).ok()), ..self.pathless() }
    }

    /// The cause of a verdict on [`Requested::request`], which may be that the proxy does not name the request.
    pub(super) fn cause(&self, judged: Cause) -> Cause {
        let is_unread = judged == Cause::Refused(Ground::PathRefused);
        if is_unread && self.named().is_none() { Cause::RequestUnnamed } else { judged }
    }

    /// The target, if the proxy names the method and the target clearly.
    fn named(&self) -> Option<&str> {
        self.method.and(self.target)
    }

    /// The same request without its path, for an Instance whose rules do not depend on that.
    pub fn pathless(&self) -> Request<'_> {
        let query = cut(self.target.unwrap_or_default(), b'?').1.unwrap_or_default();
        Request { method: self.method.unwrap_or_default(), path: None, query, headers: self.headers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_the_proxy_does_not_name_is_told_from_one_whose_path_cannot_be_read() {
        let (headers, unread) = (HeaderMap::new(), Cause::Refused(Ground::PathRefused));
        for (method, target, cause) in [
            (Some("GET"), Some("/%zz"), unread),
            (None, Some("/a"), Cause::RequestUnnamed),
            (Some("GET"), None, Cause::RequestUnnamed),
            (None, None, Cause::RequestUnnamed),
        ] {
            let wanted = Requested { method, target, headers: &headers };
            assert!(wanted.request().path.is_none(), "{method:?} {target:?}");
            assert_eq!((wanted.cause(unread), wanted.cause(Cause::Allowed)), (cause, Cause::Allowed));
        }
        let named = Requested { method: Some("GET"), target: Some("/a"), headers: &headers };
        assert!(named.request().path.is_some());
    }
}
