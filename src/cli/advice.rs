//! The commands that a message advises, and the next step after a refusal of the verifier.

use crate::{access::Ground, verifier::Cause};

/// The begin of each advised command.
const PROGRAM: &str = "kubectl tokenry";

/// The command `kubectl tokenry` with these words, for an object in `namespace`. The namespace of a user may be another
/// one.
pub(crate) fn command(words: &str, namespace: &str) -> String {
    format!("{PROGRAM} {words} -n {}", quoted(namespace))
}

/// A text as a word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte));
    if is_plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The next step of a user whose request is refused for `cause`. `None`: the request is let in.
pub(crate) fn next_step(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::Allowed | Cause::Unguarded => return None,
        Cause::Probe => "send a request for another path; this one shows that the guard works",
        Cause::Missing => "send the token in a header of spec.api.credentials of the Instance",
        Cause::Oversized | Cause::NotAscii | Cause::Repeated | Cause::Several | Cause::LookAlike => {
            "send the token once, in one header, and no other header that can hold one"
        }
        Cause::Malformed | Cause::Unknown | Cause::Mismatch => {
            "read the value again from the Secret of the token: kubectl tokenry show NAME"
        }
        Cause::Ambiguous => "ask an administrator: several tokens have records with this id",
        Cause::OtherInstance | Cause::OtherAudience => {
            "use a token of this Instance, or let it be an audience: spec.audiences of the token"
        }
        Cause::Deleted | Cause::Revoked | Cause::AccountGone => {
            "create a token of another name, or delete this one first"
        }
        Cause::AccountSuspended => "set spec.active of the account to true",
        Cause::Suspended => "resume the token: kubectl tokenry resume NAME",
        Cause::Expired => {
            "read the newest value: kubectl tokenry show NAME; or ask for a new one: kubectl tokenry rotate NAME"
        }
        Cause::InstanceUnnamed | Cause::InstanceMissing => {
            "correct the Instance in the address by which the proxy asks the verifier"
        }
        Cause::RequestUnnamed => "let the proxy name the request when it asks the verifier",
        Cause::InstanceDeleting => "wait for another Instance: this one is being deleted",
        Cause::NamespaceNotAdmitted => "admit the namespace of the token: spec.tokens.namespaces of the Instance",
        Cause::InstanceInvalid => "correct the faults in the status of the Instance",
        Cause::EndpointDisabled => "enable the endpoint: spec.manager.endpoints of the Instance",
        Cause::PolicyUnread => "ask an administrator to correct the AccessPolicy that the verifier cannot read",
        Cause::Flawed(_) => "correct the question by which the proxy asks the verifier",
        Cause::Refused(ground) => return of_ground(ground),
        Cause::NotSynced | Cause::OutOfTouch | Cause::Crowded => {
            "try again soon; `kubectl tokenry check` says if the verifiers are well"
        }
    })
}

fn of_ground(ground: Ground) -> Option<&'static str> {
    Some(match ground {
        Ground::Authenticated | Ground::ByRole | Ground::ByPolicy => return None,
        Ground::PathRefused => "send a plain path: without encoded slashes, //, .. and ;",
        Ground::MethodRefused => "send the request with its own method, and without X-HTTP-Method-Override",
        Ground::HeaderRefused => "leave out headers that look like identity headers, such as X_Organization",
        Ground::Excluded => "sign in without a token: spec.api.excluded of the Instance excludes the request",
        Ground::OwnerMissing => "give the token an owner: kubectl tokenry transfer NAME --to SUBJECT",
        Ground::OwnerStale => "let the owner touch the token: its groups are stamped again",
        Ground::OwnerRemoved => "give the owner a role in spec.members of the Instance, or name another owner",
        Ground::OrganizationMissing => {
            "name the organization in the request: --organization; only an Instance with spec.api.organizationFrom \
             reads one"
        }
        Ground::OrganizationUnknown => "name an organization of spec.organizations of the Instance",
        Ground::OrganizationOutside => "name an organization of the token, or add it to spec.organizations",
        Ground::ProjectMissing => {
            "name the project in the request: --project; only an Instance with spec.api.projectFrom reads one"
        }
        Ground::ProjectOutside => "name a project of the token: kubectl tokenry set projects NAME",
        Ground::Denied => "ask the keeper of the policy that denies it; the lines above name it",
        Ground::NoPermissions | Ground::NotPermitted => {
            "give the token a role that permits the action: kubectl tokenry set role NAME ROLE; or add it to a policy"
        }
    })
}
