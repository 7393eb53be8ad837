//! What a caller wants to do.

use http::HeaderMap;

use crate::access::{Path, Request};

/// What a caller wants to do. What is not said clearly is not known.
pub struct Requested<'a> {
    /// The method.
    pub method: Option<String>,
    /// The target: a path with its query, or a whole URI.
    pub target: Option<String>,
    /// The headers, as far as they are passed on.
    pub headers: &'a HeaderMap,
}

impl Requested<'_> {
    /// As access sees it.
    pub fn request(&self) -> Request<'_> {
        let known = self.method.as_deref().zip(self.target.as_deref());
        let path = known.and_then(|(_, target)| Path::parse(target).ok());
        let query = self.target.as_deref().and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
        Request { method: self.method.as_deref().unwrap_or_default(), path, query, headers: self.headers }
    }
}
