//! Requests to the verifier, and its answers, over HTTP.

use std::path::Path;

use tokenry::{
    access::{Ground, header::IDENTITY},
    verifier::{Cause, Flaw, Protocol},
};

use super::{
    page::{begin, cell, code, section, table},
    source::{Named, variants},
};

/// Every cause that the verifier has by itself. `Refused` holds the grounds of the second table, and `Flawed` the flaws
/// of the third one.
const CAUSES: [Cause; 32] = [
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
    Cause::Ambiguous,
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
    Cause::RequestUnnamed,
    Cause::InstanceDeleting,
    Cause::NamespaceNotAdmitted,
    Cause::InstanceInvalid,
    Cause::EndpointDisabled,
    Cause::PolicyUnread,
    Cause::NotSynced,
    Cause::OutOfTouch,
    Cause::Crowded,
];

/// Every flaw of a question.
const FLAWS: [Flaw; 13] = [
    Flaw::Unreadable,
    Flaw::MethodUnsupported,
    Flaw::TooSlow,
    Flaw::TooLong,
    Flaw::TypeUnsupported,
    Flaw::CallerMissing,
    Flaw::CallerUnclear,
    Flaw::CallerUnproven,
    Flaw::CallerForbidden,
    Flaw::ReviewFailed,
    Flaw::IntrospectionOff,
    Flaw::PathUnknown,
    Flaw::CallerLeft,
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
                 `X-Original-URL`. To Envoy it answers the gRPC method `envoy.service.auth.v3.Authorization/Check`. The \
                 Instance is then the entry `tokenry.dev/instance` of `context_extensions`, or else the metadata \
                 `x-tokenry-instance`, as `<namespace>/<instance>`. The code of the answer is OK, UNAUTHENTICATED, \
                 PERMISSION_DENIED or UNAVAILABLE for the statuses 200, 401, 403 and 503. \
                 [TokenReview](#tokenreview) and [introspection](#introspection) ask about a token alone. The realm of \
                 each challenge is `tokenry/<namespace>/<instance>`, or `tokenry` if the verifier does not know the \
                 Instance. Operator and verifier serve `/healthz`, `/readyz` and `/metrics` at port 8081 (`--probes`). \
                 Port 8081 stays reachable during a flood of requests at port 8080. Port 8080 has the first two as \
                 well. A verifier that has not read everything once does not listen at port 8080 yet. So `NotSynced` \
                 is no answer that a caller gets, and a proxy finds nobody to ask.";
    let mut page = begin("Headers and HTTP answers", "the verifier's causes", about);
    section(&mut page, "Identity headers", "An answer of 200 holds all of them; one without a value is empty.");
    table(&mut page, ["header"], IDENTITY.iter().map(|name| [code(name.as_str())]));
    let about = "A caller sees the status. The reason is in the audit log and in the metrics. Through ingress-nginx, \
                 and with the query `mode=nginx` behind `authorize`, a status of 503 becomes 403. `Probe` has its own \
                 metric, `tokenry_verifier_probes_total`, and no line in the audit log.";
    section(&mut page, "Answers", about);
    let told = variants(root, "src/verifier/cause.rs", "pub enum Cause");
    same(&told, CAUSES.iter().map(ToString::to_string).chain(["Refused".into(), "Flawed".into()]));
    answers(&mut page, &told, &CAUSES);
    let about = "The body of every 403 has the sentence as `error_description`; an exclusion has its own `message`.";
    section(&mut page, "Answers to a valid token", about);
    let told = variants(root, "src/access/judge.rs", "pub enum Ground");
    same(&told, GROUNDS.iter().chain(&PERMITTING).map(|ground| ground.as_str().to_owned()));
    answers(&mut page, &told, &GROUNDS.map(Cause::Refused));
    let about = "A question with a flaw is about no token. The sentence is the `error_description` of the answer. By \
                 gRPC it is the message of the status, whose code is INVALID_ARGUMENT, DEADLINE_EXCEEDED for 408 and \
                 OUT_OF_RANGE for 413.";
    section(&mut page, "Answers to a question with a flaw", about);
    let told = variants(root, "src/verifier/flaw.rs", "pub enum Flaw");
    same(&told, FLAWS.iter().map(|flaw| flaw.as_str().to_owned()));
    flaws(&mut page, &told);
    token_review(&mut page);
    introspection(&mut page);
    page
}

/// The webhook of API servers.
fn token_review(page: &mut String) {
    let about = "`POST /v1/instances/<namespace>/<instance>/tokenreviews` answers the kind TokenReview of \
                 `authentication.k8s.io/v1` and `v1beta1`, in the version of the question. The same is below the \
                 Instance, and below that path, at `apis/authentication.k8s.io/<version>/tokenreviews`. A token is \
                 authenticated if the verifier would permit some request with it. Then `status.audiences` is \
                 `tokenry.dev/<namespace>/<instance>`. A question that names audiences has to name this one. \
                 `status.error` is present only for a reason of status 503. \
                 [Let the Kubernetes API accept tokens](../how-to/kubernetes-api.md) shows the set-up.";
    section(page, "TokenReview", about);
    pairs(
        page,
        ["field", "value"],
        &[
            ("`status.user.username`", "`token:<namespace>/<name>` of the ApiToken"),
            ("`status.user.uid`", "its uid"),
            (
                "`status.user.groups`",
                "`tokenry.dev:account:<namespace>/<name>`, `tokenry.dev:instance:<namespace>/<name>`",
            ),
            ("", "`tokenry.dev:role:<role>`, if the effective role is the same for every request"),
            ("`status.user.extra`", "`tokenry.dev/token-id`: the public id of the value"),
        ],
    );
    page.push('\n');
    pairs(
        page,
        ["status", "meaning"],
        &[
            ("200", "each TokenReview, also about a token that is not authenticated"),
            ("400, 405, 408, 413, 415", "the question has a [flaw](#answers-to-a-question-with-a-flaw)"),
            ("503", "too many callers send their bodies slowly"),
        ],
    );
}

/// Introspection by RFC 7662.
fn introspection(page: &mut String) {
    let about = "`POST /v1/instances/<namespace>/<instance>/introspect` answers RFC 7662 if the verifier runs with \
                 `--introspection`. The form has the field `token`. The caller sends a Kubernetes token as \
                 `Authorization: Bearer`. [Introspect tokens](../how-to/introspect.md) shows the set-up. A token that is \
                 not let in gives `{\"active\":false}` and nothing more.";
    section(page, "Introspection", about);
    pairs(
        page,
        ["field", "value"],
        &[
            ("`active`", "`true`: the verifier would permit some request with the token"),
            ("`iss`", "`tokenry.dev`"),
            ("`sub`", "`account:<namespace>/<name>`, as in `X-Tokenry-Subject`"),
            ("`aud`", "`tokenry.dev/<namespace>/<instance>`"),
            ("`username`", "`token:<namespace>/<name>`"),
            ("`token_type`", "`Bearer`"),
            ("`jti`", "the public id of the value"),
            ("`iat`", "the time of its mint"),
            ("`exp`", "its expiry; absent: it never expires"),
            ("`scope`", "the effective role; absent: there is none, or it depends on the request"),
        ],
    );
    page.push('\n');
    pairs(
        page,
        ["status", "meaning"],
        &[
            ("200", "the token is described, or is not active"),
            (
                "400, 401, 403, 405, 408, 413, 415, 501",
                "the question or its caller has a [flaw](#answers-to-a-question-with-a-flaw); a flaw of the caller has a \
                 challenge with the realm `kubernetes`",
            ),
            ("503", "the verifier or the API server cannot decide now, or too many callers wait"),
        ],
    );
}

fn pairs(page: &mut String, head: [&str; 2], rows: &[(&str, &str)]) {
    table(page, head, rows.iter().map(|&(one, other)| [one.to_owned(), other.to_owned()]));
}

/// Fails where the source names another variant than the list above.
fn same(told: &[Named], listed: impl Iterator<Item = String>) {
    let (mut told, mut listed): (Vec<_>, Vec<_>) =
        (told.iter().map(|one| one.name.clone()).collect(), listed.collect());
    told.sort();
    listed.sort();
    assert_eq!(told, listed, "add it to the list in tests/shared/reference/answers.rs");
}

/// The flaws, each with its sentence for introspection.
fn flaws(page: &mut String, told: &[Named]) {
    let rows = FLAWS.iter().map(|flaw| {
        let meaning = told.iter().find(|one| one.name == flaw.as_str()).map_or("", |one| &one.about);
        let sentence = cell(flaw.hint(Protocol::Introspection));
        [code(flaw.as_str()), flaw.code().to_string(), cell(meaning), cell(flaw.error().unwrap_or("")), sentence]
    });
    table(page, ["reason", "status", "meaning", "error", "sentence for introspection"], rows);
}

fn answers(page: &mut String, told: &[Named], causes: &[Cause]) {
    let rows = causes.iter().map(|cause| {
        let meaning = told.iter().find(|one| one.name == cause.as_str()).map_or("", |one| &one.about);
        let status = cause.category().code().to_string();
        [code(cause.as_str()), status, cell(meaning), cell(cause.hint(Protocol::ForwardAuth).unwrap_or_default())]
    });
    table(page, ["reason", "status", "meaning", "sentence"], rows);
}
