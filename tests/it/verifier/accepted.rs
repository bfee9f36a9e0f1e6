//! Good tokens, and who is seen in them.

use runner_broker::dev::issuer::Alg;
use serde_json::json;

use super::World;

#[tokio::test]
async fn every_algorithm_of_the_contract_is_accepted() {
    let world = World::ready().await;
    let rsa = [Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512];
    for alg in rsa.into_iter().chain([Alg::ES256, Alg::ES384, Alg::EdDSA]) {
        let token = world.issuer.token().alg(alg).claim("sub", "someone").mint();
        assert_eq!(world.verify(&token).await.unwrap(), "someone", "{alg:?}");
    }
}
