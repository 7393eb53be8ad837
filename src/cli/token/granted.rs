//! The right to read a value that the operator gives to the owner of a token, once its Secret exists.

use std::future::pending;

use super::needed::{self, GrantableRight};
use crate::{
    cli::{Error, connection::Workplace, lacking},
    crd::{ApiToken, Instance, Reason, condition::GRANTS_MISSING, subject::of_username},
    outside::desk::{GRANTED_WITHIN, Intent},
};

/// True if the operator gives rights by `instance`, and the Instance does not say otherwise.
pub(crate) fn gives(instance: &Instance) -> bool {
    instance.grants_rights() && !says_off(instance)
}

/// Waits for no grant of the operator if it gives none by `instance`. `None`: it may give some.
pub(super) fn heed(place: &Workplace, instance: Option<&Instance>) {
    if instance.is_some_and(|instance| !gives(instance)) {
        place.desk.expect_no_grant();
    }
}

/// True if the operator gives the current user the right to read the values of its tokens of `instance`. The owner of a
/// token is that user unless another one is named.
pub(super) async fn is_given(place: &Workplace, instance: &Instance, owner: Option<&str>) -> Result<bool, Error> {
    if !gives(instance) {
        return Ok(false);
    }
    let me = of_username(place.desk.user().await?.username.as_deref().unwrap_or_default());
    Ok(me.starts_with("user:") && owner.is_none_or(|owner| owner == me))
}

/// Waits until the operator has given the owner of `token` this right to read the value. An Instance that says that its
/// operator gives no rights ends the wait.
///
/// # Errors
/// The right did not come.
pub(super) async fn wait(place: &Workplace, token: &ApiToken, value: GrantableRight) -> Result<(), Error> {
    let value = [value];
    let (lacked, why) = tokio::select! {
        lacked = needed::lacked(place, &value, Intent::Do) => (lacked?, "has not given its owner the right to it yet"),
        () = until_off(place, token) => {
            (needed::lacked(place, &value, Intent::Rehearse).await?, "gives owners no right to it")
        }
    };
    if lacked.is_empty() {
        return Ok(());
    }
    Err(lacking::lacks(place, &format!("the value is not printed, as the operator {why}: "), &lacked).await)
}

/// True if the Instance says that its operator grants no rights.
fn says_off(instance: &Instance) -> bool {
    let conditions = instance.status.iter().flat_map(|status| &status.conditions);
    let off = Reason::GrantsOff.to_string();
    { conditions }.any(|known| known.type_ == GRANTS_MISSING && known.status == "True" && known.reason == off)
}

/// Ends once the Instance of a token says that its operator grants no rights. It never ends otherwise.
async fn until_off(place: &Workplace, token: &ApiToken) {
    let reference = &token.spec.instance_ref;
    let named = (reference.namespace_or(&place.namespace), reference.name.as_str());
    let is_off = |instance: Option<&Instance>| instance.filter(|instance| says_off(instance)).map(|_| ());
    if !matches!(place.desk.until(named, GRANTED_WITHIN, is_off).await, Ok(Some(()))) {
        pending().await
    }
}
