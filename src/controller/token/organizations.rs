//! Checks the organizations that a token lists.

use super::world::World;
use crate::crd::{Fault, Reason, api_token::MAX_ORGANIZATIONS};

/// Adds a fault for each Instance of the token that does not list all of the token's organizations. Otherwise the token
/// would lose them there without a word.
pub(crate) fn faults(world: &World, faults: &mut Vec<Fault>) {
    let scope = world.token.spec.organizations.as_ref();
    let listed = scope.and_then(|scope| scope.listed.as_ref()).map_or(0, Vec::len);
    if listed > MAX_ORGANIZATIONS {
        let message = format!("lists {listed} organizations; list at most {MAX_ORGANIZATIONS}");
        faults.push(Fault::invalid("spec.organizations.listed", message));
    }
    let instances = world.instance.iter().chain(world.audiences.iter().flatten());
    faults.extend(instances.filter_map(|instance| instance.organization_fault(scope)));
    if scope.is_none_or(|scope| scope.listed.is_none()) {
        of_account(world, faults);
    }
}

/// Adds a fault for each audience that does not list all organizations of the token's account. The account itself
/// reports those that its own Instance does not list.
fn of_account(world: &World, faults: &mut Vec<Fault>) {
    let Some(account) = &world.account else { return };
    for (index, audience) in world.audiences.iter().enumerate() {
        let told = audience.as_ref().and_then(|audience| audience.unlisted(account.spec.organizations.as_ref()));
        if let Some(told) = told {
            let name = world.token.account_name().0;
            let message = format!("spec.organizations.listed of account {name} {told}, or remove the audience here");
            faults.push(Fault::new(Reason::OrganizationUnknown, format!("spec.audiences[{index}]"), message));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{
        fixture::{self, new},
        validate::validate,
    };
    use crate::controller::book::Ruled;
    use serde_json::{Value, json};

    /// The faults of a token with these organizations. Its Instances list these: its own, and an audience.
    fn told(organizations: Value, [own, audience]: [Value; 2]) -> Vec<String> {
        let mut other = fixture::instance(json!({ "organizations": audience }));
        (other.metadata.name, other.metadata.uid) = (Some("other".into()), Some("2".into()));
        let spec = json!({"organizations": organizations, "audiences": [{"name": "other"}]});
        let world = new().with_instance(json!({ "organizations": own })).with_spec(&spec);
        let world = world.and(|world| world.audiences = vec![Some(Ruled::new(Arc::new(other)))]);
        validate(&world).err().into_iter().flatten().map(|fault| format!("{} {fault}", fault.reason)).collect()
    }

    #[test]
    fn an_organization_that_an_instance_of_the_token_does_not_list_is_a_fault() {
        let lists = |names: &[&str]| json!({ "listed": names });
        let both = || [json!(["a", "b"]), json!(["a", "b"])];
        for organizations in [json!({"all": true}), lists(&[]), lists(&["a"]), lists(&["b", "a"])] {
            assert_eq!(told(organizations.clone(), both()), [""; 0], "{organizations}");
        }
        assert_eq!(told(lists(&["x"]), [json!(["*"]), json!(["*"])]), [""; 0]);
        let lacks = |names: &str, of: &str| {
            format!(
                "OrganizationUnknown spec.organizations.listed: lists {names}, but spec.organizations of Instance \
                 events/{of} does not; add each of them there, or remove it here"
            )
        };
        assert_eq!(told(lists(&["a", "x", "y"]), [json!(["a"]), json!(["*"])]), [lacks("x, y", "eem")]);
        assert_eq!(told(lists(&["a"]), [json!(["a"]), json!(["b"])]), [lacks("a", "other")]);
        // Left out, the list is the organization of each Instance alone.
        assert_eq!(told(lists(&["eem"]), [json!([]), json!([])]), [lacks("eem", "other")]);
    }

    #[test]
    fn an_organization_of_its_account_that_an_audience_does_not_list_is_a_fault() {
        let told = |organizations: Value, listed: Value| {
            let mut other = fixture::instance(json!({ "organizations": listed }));
            (other.metadata.name, other.metadata.uid) = (Some("other".into()), Some("2".into()));
            let spec = json!({"organizations": organizations, "audiences": [{"name": "other"}]});
            let named = json!({"serviceAccountRef": {"name": "ci"}});
            let any = json!({"organizations": ["*"]});
            let world = new().with_instance(any).with_spec(&spec).with_spec(&named).and(|world| {
                let mut account = fixture::account();
                account.spec.organizations = serde_json::from_value(json!({"listed": ["a", "b"]})).unwrap();
                world.account = Some(Arc::new(account));
                world.audiences = vec![Some(Ruled::new(Arc::new(other)))];
            });
            validate(&world).err().into_iter().flatten().map(|fault| format!("{} {fault}", fault.reason)).collect()
        };
        let none: Vec<String> = told(Value::Null, json!(["a", "b"]));
        assert_eq!(none, [""; 0]);
        let fault = "OrganizationUnknown spec.audiences[0]: spec.organizations.listed of account ci lists b, but \
                     spec.organizations of Instance events/other does not; add each of them there, or remove the \
                     audience here";
        assert_eq!(told(Value::Null, json!(["a"])), [fault]);
        assert_eq!(told(json!({"all": true}), json!(["a"])), [fault]);
        assert_eq!(told(json!({"listed": ["a"]}), json!(["a"])), [""; 0], "the token asks for less");
    }

    #[test]
    fn a_token_lists_few_organizations() {
        let many = |count: usize| json!({ "listed": (0..count).map(|n| format!("o{n}")).collect::<Vec<_>>() });
        let any = || [json!(["*"]), json!(["*"])];
        assert_eq!(told(many(16), any()), [""; 0]);
        let fault = "Invalid spec.organizations.listed: lists 17 organizations; list at most 16";
        assert_eq!(told(many(17), any()), [fault]);
    }
}
