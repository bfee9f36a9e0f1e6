//! The console's page on deny rules.

use super::jobs::{EVIL, escapes, roles};
use crate::people::identities::{id_of, seen};
use crate::support::World;

fn hidden(page: &str, name: &str) -> String {
    let after = page.split(&format!(r#"name="{name}" value=""#)).nth(1).expect("a hidden field");
    after.split('"').next().expect("its end").to_owned()
}

fn rule(world: &World, claims: &str) -> String {
    format!("{} {claims}", world.issuer.url())
}

#[actix_web::test]
async fn rules_are_added_and_removed_and_nobody_denies_themselves() {
    let world = World::new().await;
    roles(&world).await;
    let admin = world.signed_in("ann").await;
    let blue = world.signed_in("blue").await;
    let page = admin.get("/denials").await;
    assert!(page.text.contains("None."), "{}", page.text);
    let version = hidden(&page.text, "version");
    let (member, until) = (rule(&world, r#"{"team": "blue"}"#), ("until", "2100-12-31"));
    let fields = [("version", version.as_str()), ("member", &member), ("comment", EVIL), until];
    let added = admin.submit("/denials", "/denials/add", &fields).await;
    assert_eq!((added.status, added.header("location")), (303, "/denials"), "{}", added.text);
    assert_eq!(blue.get("/runners").await.status, 403, "a session that stood");
    let page = admin.get("/denials").await;
    escapes(&page.text);
    assert!(page.text.contains("2100-12-31") && page.text.contains("blue"), "{}", page.text);
    assert_eq!(admin.submit("/denials", "/denials/add", &fields).await.status, 412, "as it was before");

    let version = hidden(&page.text, "version");
    let own = rule(&world, r#"{"team": "ann"}"#);
    let refused = admin.submit("/denials", "/denials/add", &[("version", &version), ("member", &own)]).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert!(refused.text.contains("would deny you access"), "{}", refused.text);
    let fields = [("version", version.as_str()), ("member", "keep this"), ("until", "tomorrow")];
    let refused = admin.submit("/denials", "/denials/add", &fields).await;
    assert_eq!(refused.status, 422);
    for kept in [r#"value="keep this""#, r#"value="tomorrow""#, "is no date such as"] {
        assert!(refused.text.contains(kept), "{kept}: {}", refused.text);
    }

    let fields = [("version", version.as_str()), ("id", &hidden(&page.text, "id"))];
    let gone = admin.submit("/denials", "/denials/remove", &fields).await;
    assert_eq!((gone.status, gone.header("location")), (303, "/denials"), "{}", gone.text);
    assert_eq!(blue.get("/runners").await.status, 200);
}

#[actix_web::test]
async fn auditors_see_the_rules_and_members_do_not() {
    let world = World::new().await;
    roles(&world).await;
    let page = world.signed_in("aud").await.get("/denials").await;
    assert!(page.status == 200 && !page.text.contains("/denials/add"), "{}", page.text);
    assert_eq!(world.signed_in("blue").await.get("/denials").await.status, 403);
    let teams = world.signed_in("aud").await.get("/teams").await;
    assert!(teams.text.contains(r#"href="/denials""#), "{}", teams.text);
}

#[actix_web::test]
async fn who_deactivates_an_identity_is_told_of_deny_rules() {
    let world = World::new().await;
    roles(&world).await;
    seen(&world, &["blue"]).await;
    let admin = world.signed_in("ann").await;
    let id = id_of(&world, "blue").await;
    let page = admin.get(&format!("/identities/{id}/deactivate")).await;
    assert!(page.text.contains("can choose their subject"), "{}", page.text);
    let link = page.text.split(r#"href="/denials?"#).nth(1).expect("a link").split('"').next().unwrap();
    let form = admin.get(&format!("/denials?{}", link.replace("&amp;", "&"))).await;
    let wanted = format!(r#"name="member" value="{} {{}}""#, world.issuer.url());
    assert!(form.text.contains(&wanted), "{}", form.text);
}
