//! How a test of a guard looks: the operator makes the request, and the verifier answers it.

/// The path by which the operator tests the guard of an endpoint. The verifier lets no request for it through.
pub const PROBE: &str = "/.tokenry/probe";

/// The realm of an Instance. Every challenge of the Instance has it, so the operator recognises its own challenge.
pub fn realm(namespace: &str, name: &str) -> String {
    format!("tokenry/{namespace}/{name}")
}
