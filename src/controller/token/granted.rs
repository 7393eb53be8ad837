//! The right of a user to read the Secrets of its token.

use super::{secrets::Held, world::World};
use crate::controller::grants::{self, Granted};

/// The right that follows from a token. Its rule names only Secrets that belong to the token: the token of a user can
/// have the name of somebody else's Secret. `None` while the rules of the Instance have faults.
pub(crate) fn granted(world: &World) -> Option<Vec<Granted>> {
    let Some(instance) = world.instance.as_ref().filter(|instance| instance.grants_rights()) else {
        return Some(Vec::new());
    };
    let rules = instance.rules()?;
    let has_ended = world.token.spec.revoked || world.before().revocation.is_some();
    let owner = world.owner().filter(|_| !has_ended && world.owner.removed.is_none());
    let ours = |(name, held): (&String, &Held)| held.ours().map(|_| name.clone());
    let secrets = world.stored.iter().filter_map(ours).collect();
    let granted = owner.and_then(|owner| grants::of_token(&world.token, owner.as_str(), secrets, instance, rules));
    Some(granted.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::{
        super::fixture::{new, served},
        *,
    };
    use serde_json::{Value, json};

    /// A token of alice, with an Instance under which she holds a role.
    fn of_alice(world: World, more: Value) -> World {
        let members = json!([{"subject": "user:alice", "role": "admin"}]);
        let mut spec = json!({"ceiling": "Members", "members": members});
        super::super::fixture::merge(&mut spec, &more);
        world.with_instance(spec).with_spec(&json!({"owner": "user:alice"}))
    }

    /// The Secrets that the owner may read; none if it may read none.
    fn secrets(world: &World) -> Vec<String> {
        let granted = granted(world).unwrap();
        granted
            .iter()
            .flat_map(|granted| granted.role.rules.iter().flatten())
            .flat_map(|rule| rule.resource_names.clone().unwrap())
            .collect()
    }

    #[test]
    fn an_owner_may_read_the_secret_of_its_token_while_it_is_the_owner() {
        let world = of_alice(served(), json!({}));
        assert_eq!(secrets(&world), ["ci"]);
        for none in [
            of_alice(new(), json!({})),
            of_alice(served(), json!({"grants": "None"})),
            of_alice(served(), json!({"ceiling": "None"})),
            of_alice(served(), json!({"members": []})),
            of_alice(served(), json!({"formerOwners": ["user:alice"]})),
            of_alice(served(), json!({})).with_spec(&json!({"owner": "group:ops"})),
            of_alice(served(), json!({})).with_spec(&json!({"revoked": true})),
            of_alice(served(), json!({})).and(|world| world.instance = None),
        ] {
            assert_eq!(secrets(&none), [""; 0]);
        }
        let suspended = of_alice(served(), json!({})).with_spec(&json!({"active": false}));
        assert_eq!(secrets(&suspended), ["ci"]);
    }

    #[test]
    fn a_secret_of_somebody_else_is_never_named() {
        let foreign = of_alice(served(), json!({})).and(|world| _ = world.stored.insert("ci".into(), Held::Foreign));
        assert_eq!(secrets(&foreign), [""; 0]);
        let retyped = of_alice(served(), json!({}))
            .and(|world| _ = world.stored.insert("ci".into(), Held::Retyped("Opaque".into())));
        assert_eq!(secrets(&retyped), [""; 0]);
    }

    #[test]
    fn nothing_changes_while_the_rules_of_the_instance_have_faults() {
        assert_eq!(granted(&of_alice(served(), json!({"tokens": {"minimumRole": "none"}}))), None);
    }
}
