//! Clients that generators of others made from the committed OpenAPI document.

use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::support::World;
use crate::tools::{here, machine_program, node_with, openapi, python_program, run};

/// For a generator, a compiler or a client.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a client, which prints as JSON the runner that it got and how many it then saw; the runner must work.
async fn try_out(world: &World, client: &mut Command) {
    let client = client.env("BROKER_URL", &world.url).env("BROKER_TOKEN", world.token("blue"));
    let said: Value = serde_json::from_str(&run(client, LIMIT).await).expect("a line of JSON");
    let name = said["runner_name"].as_str().expect("a name");
    assert_eq!(said["listed"], 1);
    assert_eq!(world.status(name).await, "pending");
    let config = said["encoded_jit_config"].as_str().expect("a configuration");
    assert_eq!(world.github.connect_jit(config).expect("a configuration that works"), name);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_generated_for_python_provisions_and_lists() {
    let Some(generator) = python_program("openapi-generator-cli") else { return };
    let Some(python) = python_program("python") else { return };
    let Some(_java) = machine_program("java") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut generate = Command::new(generator);
    generate.args(["generate", "-g", "python", "--package-name", "runner_broker_client", "-i"]);
    run(generate.arg(openapi()).arg("-o").arg(folder.path()), LIMIT).await;

    let world = World::new().await;
    try_out(&world, Command::new(python).arg(here("client.py")).env("PYTHONPATH", folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_generated_for_typescript_fit_what_the_broker_takes_and_answers() {
    let Some(node) = node_with("openapi-typescript") else { return };
    let Some(_) = node_with("typescript") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let modules = here("node_modules");
    let mut generate = Command::new(&node);
    generate.arg(modules.join("openapi-typescript/bin/cli.js")).arg(openapi());
    run(generate.arg("-o").arg(folder.join("api.d.mts")), LIMIT).await;

    let client = folder.join("client.mts");
    std::fs::copy(here("client.mts"), &client).expect("a copy");
    let mut compile = Command::new(&node);
    compile.arg(modules.join("typescript/bin/tsc")).args(["--strict", "--noEmitOnError"]);
    compile.args(["--target", "es2022", "--module", "nodenext", "--types", "node", "--typeRoots"]);
    run(compile.arg(modules.join("@types")).arg(&client), LIMIT).await;

    let world = World::new().await;
    try_out(&world, Command::new(node).arg(folder.join("client.mjs"))).await;
}
