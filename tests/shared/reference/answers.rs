//! Requests to the verifier, and its answers, over HTTP.

use std::path::Path;

use tokenry::{
    access::{Ground, header::IDENTITY},
    verifier::Cause,
};

use super::{
    page::{begin, cell, code, section, table},
    source::{Named, variants},
};

/// Every cause that the verifier has by itself. `Refused` holds the grounds of the second table.
const CAUSES: [Cause; 29] = [
    Cause::Allowed,
    Cause::Unguarded,
    Cause::Probe,
    Cause::Missing,
    Cause::Oversized,
    Cause::NotAscii,
    Cause::Repeated,
    Cause::Several,
    Cause::LookAlike,
    Cause::Malformed,
    Cause::Unknown,
    Cause::Mismatch,
    Cause::OtherInstance,
    Cause::OtherAudience,
    Cause::Deleted,
    Cause::Revoked,
    Cause::AccountGone,
    Cause::AccountSuspended,
    Cause::Suspended,
    Cause::Expired,
    Cause::InstanceUnnamed,
    Cause::InstanceMissing,
    Cause::InstanceDeleting,
    Cause::NamespaceNotAdmitted,
    Cause::InstanceInvalid,
    Cause::EndpointDisabled,
    Cause::NotSynced,
    Cause::OutOfTouch,
    Cause::Crowded,
];

/// Every ground that a valid token is refused for.
const GROUNDS: [Ground; 15] = [
    Ground::PathRefused,
    Ground::MethodRefused,
    Ground::HeaderRefused,
    Ground::Excluded,
    Ground::OwnerMissing,
    Ground::OwnerStale,
    Ground::OwnerRemoved,
    Ground::OrganizationMissing,
    Ground::OrganizationUnknown,
    Ground::OrganizationOutside,
    Ground::ProjectMissing,
    Ground::ProjectOutside,
    Ground::Denied,
    Ground::NoPermissions,
    Ground::NotPermitted,
];
/// Every ground that lets a request in.
const PERMITTING: [Ground; 3] = [Ground::Authenticated, Ground::ByRole, Ground::ByPolicy];

pub fn page(root: &Path) -> String {
    let about = "The verifier serves `ANY /v1/instances/<namespace>/<instance>/authorize`, with any path behind it. \
                 The proxy names the request of its caller in `X-Forwarded-Method` and `X-Forwarded-Uri`, or appends \
                 the path as Envoy does. For ingress-nginx it serves \
                 `ANY /v1/instances/<namespace>/<instance>/ingress-nginx`, which reads `X-Original-Method` and \
                 `X-Original-URL`. The realm of each challenge is `tokenry/<namespace>/<instance>`, or `tokenry` if the \
                 verifier does not know the Instance. Operator and verifier serve `/healthz`, `/readyz` and `/metrics` \
                 at port 8081 (`--probes`). Port 8081 stays reachable during a flood of requests at port 8080. \
                 Port 8080 has the first two as well.";
    let mut page = begin("Headers and HTTP answers", "the verifier's causes", about);
    section(&mut page, "Identity headers", "An answer of 200 holds all of them; one without a value is empty.");
    table(&mut page, ["header"], IDENTITY.iter().map(|name| [code(name.as_str())]));
    let about = "A caller sees the status. The reason is in the audit log and in the metrics. Through ingress-nginx a \
                 status of 503 becomes 403. `Probe` has its own metric, `tokenry_verifier_probes_total`, and no line \
                 in the audit log.";
    section(&mut page, "Answers", about);
    let told = variants(root, "src/verifier/cause.rs", "pub enum Cause");
    same(&told, CAUSES.iter().map(ToString::to_string).chain(["Refused".into()]));
    answers(&mut page, &told, &CAUSES);
    let about = "The body of every 403 has the sentence as `error_description`; an exclusion has its own `message`.";
    section(&mut page, "Answers to a valid token", about);
    let told = variants(root, "src/access/judge.rs", "pub enum Ground");
    same(&told, GROUNDS.iter().chain(&PERMITTING).map(|ground| ground.as_str().to_owned()));
    answers(&mut page, &told, &GROUNDS.map(Cause::Refused));
    page
}

/// Fails where the source names another variant than the list above.
fn same(told: &[Named], listed: impl Iterator<Item = String>) {
    let (mut told, mut listed): (Vec<_>, Vec<_>) =
        (told.iter().map(|one| one.name.clone()).collect(), listed.collect());
    told.sort();
    listed.sort();
    assert_eq!(told, listed, "add it to the list in tests/shared/reference/answers.rs");
}

fn answers(page: &mut String, told: &[Named], causes: &[Cause]) {
    let rows = causes.iter().map(|cause| {
        let meaning = told.iter().find(|one| one.name == cause.as_str()).map_or("", |one| &one.about);
        let status = cause.category().code().to_string();
        [code(cause.as_str()), status, cell(meaning), cell(cause.hint().unwrap_or_default())]
    });
    table(page, ["reason", "status", "meaning", "sentence"], rows);
}
