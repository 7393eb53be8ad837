//! Reads the caller's request from the attributes that an Envoy sends.

use std::net::IpAddr;

use envoy_types::ext_authz::v3::CheckRequestExt;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, attribute_context::HttpRequest};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::proxied::only;
use crate::verifier::index::Key;

/// The entry of `context_extensions` that names the Instance of a route, as `namespace/name`.
const EXTENSION: &str = "tokenry.dev/instance";
/// The most headers that have room at once. A message can have many more.
const ROOM: usize = 64;
/// The metadata of the call that names the Instance of all routes of a filter, as `namespace/name`.
const METADATA: &str = "x-tokenry-instance";

/// The Instance that the configuration of an Envoy names. The entry of the route comes before the metadata of the
/// filter. Envoy copies no header of a caller into either. `None` if the first of them is not `namespace/name`, or if
/// the metadata is there twice.
pub(super) fn instance(message: &CheckRequest, metadata: &HeaderMap) -> Option<Key> {
    let extension = message.attributes.as_ref().and_then(|sent| sent.context_extensions.get(EXTENSION));
    let named = extension.map(String::as_str).or_else(|| only(metadata, METADATA))?;
    let (namespace, name) = named.split_once('/')?;
    let is_name = |text: &str| !text.is_empty() && !text.contains('/');
    (is_name(namespace) && is_name(name)).then(|| Key::new(namespace, name))
}

/// The address of the caller. It is that of the connection to the Envoy, or else one that Envoy trusts.
pub(super) fn source(message: &CheckRequest) -> Option<IpAddr> {
    message.get_client_address()?.parse().ok()
}

/// The caller's request, and its headers.
///
/// # Errors
/// The message is not about an HTTP request, or a header of that request is none of HTTP, or there are too many.
pub(super) fn request(message: CheckRequest) -> Result<(HttpRequest, HeaderMap), &'static str> {
    let request = message.attributes.and_then(|sent| sent.request).and_then(|request| request.http);
    let http = request.ok_or("attributes.request.http is missing; ask from an HTTP filter")?;
    let headers = headers(&http).ok_or("attributes.request.http has a header that HTTP does not allow")?;
    Ok((http, headers))
}

/// The headers, without those of HTTP/2 that begin with a colon. Envoy joins the values of a repeated header with a
/// comma, except with `encode_raw_headers`.
fn headers(http: &HttpRequest) -> Option<HeaderMap> {
    let raw = http.header_map.iter().flat_map(|map| &map.headers).map(|header| (&header.key, &*header.raw_value));
    let joined = http.headers.iter().map(|(name, value)| (name, value.as_bytes()));
    let mut headers = HeaderMap::with_capacity(http.headers.len().min(ROOM));
    for (name, value) in joined.chain(raw).filter(|(name, _)| !name.starts_with(':')) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
    }
    Some(headers)
}
