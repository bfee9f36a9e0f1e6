//! The console's pages.

use crate::browser::Browser;
use crate::support::World;

#[actix_web::test]
async fn who_is_not_signed_in_is_sent_to_sign_in_and_back() {
    let world = World::new().await;
    let answer = Browser::with(&world, "").get("/?a=b").await;
    assert_eq!((answer.status, answer.header("location")), (303, "/sign-in?return_to=%2F%3Fa%3Db"));
}

#[actix_web::test]
async fn a_page_is_shown_to_whoever_is_signed_in_and_kept_by_nobody() {
    let world = World::new().await;
    let answer = world.signed_in("blue").await.get("/").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.text.contains("blue-user"), "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'"), "{:?}", answer.headers);
}
