//! Checks of the permissions of operator, verifier and user.

use std::fmt;

use super::{
    CheckVisit,
    finding::{CheckResult, CheckedPart, Results},
    programs::Program,
};
use crate::{
    cli::{
        Duties,
        advice::{self, quoted},
        duties,
        lacking::binding,
        screen::Health,
    },
    crd::GROUP,
    operator::ELECTING,
    outside::{
        Location, Verb, Why,
        rights::{Holder, Reviewed, Right},
    },
};

/// The permissions by which a user keeps tokens.
const KEEPING: [Right; 6] = [
    Right::new(Verb::GET, GROUP, "apitokens"),
    Right::new(Verb::LIST, GROUP, "apitokens"),
    Right::new(Verb::CREATE, GROUP, "apitokens"),
    Right::new(Verb::PATCH, GROUP, "apitokens"),
    Right::new(Verb::DELETE, GROUP, "apitokens"),
    Right::new(Verb::GET, GROUP, "instances"),
];

/// The permissions by which a keeper keeps the tokens of others. One of the first three makes a user a keeper.
const OTHERS: [Right; 6] = [
    Right::new(Verb::ASSIGN, GROUP, "owners"),
    Right::new(Verb::ASSIGN, GROUP, "policies"),
    Right::new(Verb::REVOKE, GROUP, "organizations"),
    Right::new(Verb::LIST, GROUP, "apitokens"),
    Right::new(Verb::PATCH, GROUP, "apitokens"),
    Right::new(Verb::DELETE, GROUP, "apitokens"),
];
/// The permissions by which a user keeps Instances. One of the first three makes a user do so.
const INSTANCES: [Right; 8] = [
    Right::new(Verb::CREATE, GROUP, "instances"),
    Right::new(Verb::PATCH, GROUP, "instances"),
    Right::new(Verb::DELETE, GROUP, "instances"),
    Right::new(Verb::GET, GROUP, "instances"),
    Right::new(Verb::LIST, GROUP, "instances"),
    Right::new(Verb::LIST, GROUP, "accesspolicies"),
    Right::new(Verb::CREATE, GROUP, "accesspolicies"),
    Right::new(Verb::PATCH, GROUP, "accesspolicies"),
];

/// The next step if a program lacks a permission.
const GRANT: &str = "install the chart with rbac.create=true, or grant the roles of the chart";

/// Checks the permissions of the programs and of the user.
pub(super) async fn check(visit: &CheckVisit<'_>) -> Vec<CheckResult> {
    let mut results = Results::of(CheckedPart::Rights);
    for program in [Program::Operator, Program::Verifier] {
        of_program(visit, program, &mut results).await;
    }
    let place = Some(visit.namespace);
    let answers = visit.survey.review(&Holder::Myself, place, &KEEPING).await;
    let grant = advice::command(&format!("grant {} --create", quoted(visit.user)), visit.namespace);
    let hint = format!("an administrator gives them by `{grant} --apply`");
    let wanted = format!("you may keep tokens in namespace {}", visit.namespace);
    judge(&mut results, wanted, &answers, (Health::Warning, &hint));
    for (rights, kept, roles) in [
        (&OTHERS[..], "the tokens of others", &["tokenry-keeper", "tokenry-edit"][..]),
        (&INSTANCES, "Instances and policies", &["admin"]),
    ] {
        let answers = visit.survey.review(&Holder::Myself, place, rights).await;
        // Most users keep only their own tokens, and need none of these rights.
        if answers.iter().take(3).any(|(_, held)| *held == Ok(true)) {
            let wanted = format!("you may keep {kept} in namespace {}", visit.namespace);
            let commands =
                roles.iter().map(|role| format!("`{}`", binding(visit.user, role, visit.namespace).trim_start()));
            let hint = format!("an administrator gives them by {}", commands.collect::<Vec<_>>().join(" and "));
            judge(&mut results, wanted, &answers, (Health::Warning, &hint));
        }
    }
    results.done()
}

/// Checks the permissions of a program, by those that its command line needs.
async fn of_program(visit: &CheckVisit<'_>, program: Program, results: &mut Results) {
    let name = program.name();
    let needed = format!("the {name} has the rights that it needs");
    let pod = visit.pods(program).next();
    let known = match (visit.programs, pod) {
        (Ok(_), None) => return,
        (Ok(_), Some(pod)) => pod.duties.clone(),
        (Err(_), _) => duties(&[program.name()]),
    };
    let Some(Duties { scope, lease, needed: needs, useful }) = known else {
        let pod = pod.map(|pod| &*pod.name).unwrap_or_default();
        let why = Why::Invalid(format!("this program does not know the command line of Pod {pod}"));
        return results.unseen(needed, &why, "");
    };
    let holder = Holder::Account { namespace: visit.system.to_owned(), name: visit.account(program).to_owned() };
    let answers = visit.survey.review_within(&holder, &scope, &needs).await;
    judge(results, needed, &answers, (Health::Failed, GRANT));
    if let Some(order) = lease {
        let namespace = order.namespace.as_deref().unwrap_or(visit.system);
        let object = Location { namespace, name: &order.name };
        let answers = visit.survey.review(&holder, object, &ELECTING).await;
        let wanted = format!("the {name} may lead by Lease {namespace}/{}", order.name);
        judge(results, wanted, &answers, (Health::Failed, GRANT));
    }
    let answers = visit.survey.review_within(&holder, &scope, &useful).await;
    judge(results, format!("the {name} has the rights that are useful"), &answers, (Health::Warning, GRANT));
}

/// Adds a check that each permission is granted. An answer that is missing makes it a warning.
pub(super) fn judge<R: fmt::Display>(
    results: &mut Results,
    wanted: String,
    answers: &[Reviewed<R>],
    (otherwise, hint): (Health, &str),
) {
    let missing: Vec<_> = answers.iter().filter(|(_, held)| *held == Ok(false)).map(|(right, _)| right).collect();
    if missing.is_empty()
        && let Some(why) = answers.iter().find_map(|(_, held)| held.as_ref().err())
    {
        return results.unseen(wanted, why, "create subjectaccessreviews.authorization.k8s.io");
    }
    let wrong = missing.iter().map(|right| format!("missing: {right}")).collect();
    results.add(wanted, wrong, (otherwise, hint));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::worst;

    #[test]
    fn a_missing_right_outweighs_an_answer_that_is_missing() {
        let late = || Err(Why::Unavailable("late".into()));
        let judged = |first, second| {
            let mut results = Results::of(CheckedPart::Rights);
            judge(&mut results, "x".into(), &[(KEEPING[0], first), (KEEPING[1], second)], (Health::Failed, "hint"));
            worst(&results.done())
        };
        assert_eq!(judged(Ok(true), Ok(true)), Health::Fine);
        assert_eq!(judged(Ok(false), late()), Health::Failed);
        assert_eq!(judged(Ok(true), late()), Health::Warning);
        assert_eq!(super::super::unseen(&Why::Forbidden("m".into()), "x"), "you may not x");
    }
}
