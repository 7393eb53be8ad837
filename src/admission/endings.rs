//! The warnings about an end that cannot be undone: the deletion of an account, and the deletion and the revocation of
//! a token. They show the last use, because an object that is still in use may be the wrong one.

use super::{
    AdmissionPolicy, Rule,
    cel::{BECOMES_REVOKED, named},
};

/// The warning at the deletion of an account.
pub(crate) fn of_account() -> AdmissionPolicy {
    let count = |field: &str| format!("oldObject.?status.?tokens.?{field}.orValue(0)");
    AdmissionPolicy {
        name: "serviceaccounts-end",
        resources: &["serviceaccounts"],
        operations: &["DELETE"],
        variables: named([
            ("total", count("total")),
            ("valid", count("active")),
            ("used", "oldObject.?status.?lastUsedAt.orValue('')".into()),
        ]),
        rules: vec![Rule::new(
            "request.operation != 'DELETE'",
            format!(
                "'status.tokens: ' + {ACTING} + ' as this account (' + string(variables.valid) + ' valid); it was ' \
                 + {USED} + '; the deletion ends all of its tokens at once, and cannot be undone'"
            ),
        )],
    }
}

/// CEL: the number of tokens of the account, in words.
const ACTING: &str = "(variables.total == 0 ? 'no token acts' : variables.total == 1 ? '1 token acts' \
    : string(variables.total) + ' tokens act')";

/// CEL: the last use, in words. `variables.used` is its time, or the empty text.
const USED: &str = "(variables.used == '' ? 'never used' : 'last used at ' + variables.used)";

/// The warnings at the deletion and at the revocation of a token.
pub(crate) fn of_token() -> AdmissionPolicy {
    let uses = "oldObject.?status[?'use'].orValue([])";
    let ends = |path: &str, what: &str| {
        format!("'{path}: this token was ' + {USED} + '; the {what} ends every value at once, and cannot be undone'")
    };
    AdmissionPolicy {
        name: "apitokens-end",
        resources: &["apitokens"],
        operations: &["UPDATE", "DELETE"],
        variables: named([(
            "used",
            // After a rotation, the predecessor may be the one that was used last.
            format!("size({uses}) == 0 ? '' : string({uses}.map(u, timestamp(u.lastUsedAt)).max())"),
        )]),
        rules: vec![
            Rule::new("request.operation != 'DELETE'", ends("status.use", "deletion")),
            Rule::new(
                format!("request.operation != 'UPDATE' || !{BECOMES_REVOKED}"),
                ends("spec.revoked", "revocation"),
            ),
        ],
    }
}
