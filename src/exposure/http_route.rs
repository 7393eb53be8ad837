//! The HTTPRoute of an external endpoint.

use super::{Exposed, Form, loose::HttpRoute};

/// The HTTPRoute of `exposed`. `None` unless the way in is a Gateway.
pub(crate) fn build(exposed: &Exposed, form: Form) -> Option<HttpRoute> {
    let _ = (exposed, form);
    None
}
