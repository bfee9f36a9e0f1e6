//! What the rendered chart says, beyond being well-formed: that it fits this broker.

use std::collections::{BTreeMap, BTreeSet};

use runner_broker::config::VARIABLES;
use serde_json::{Value, json};

use crate::deploy::{Chart, KUBERNETES, Manifests, SETS, chart_folder, named};
use crate::tools::openapi;

/// Variables that hold secrets: never a value of the chart's.
const SECRET: [&str; 4] =
    ["DATABASE_URL", "GITHUB_WEBHOOK_SECRET", "ALERT_WEBHOOK_URL", "ALERT_WEBHOOK_SECRET"];
/// What the chart sets that is not the broker's: the TLS library's and OpenTelemetry's.
const OF_OTHERS: [&str; 2] = ["SSL_CERT_FILE", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// Deliberately not: the key is a file, which may change without a restart.
const NOT_SET: [&str; 1] = ["GITHUB_APP_PRIVATE_KEY"];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn container(pod: &Value) -> &Value {
    &pod["spec"]["containers"][0]
}

/// A pod's variables: `Ok` what the manifest says, `Err` where it comes from.
fn environment(pod: &Value) -> BTreeMap<&str, Result<&str, &Value>> {
    let entries = list(&container(pod)["env"]);
    let mut found = BTreeMap::new();
    for entry in entries {
        let value = entry["value"].as_str().ok_or(&entry["valueFrom"]);
        assert!(found.insert(text(&entry["name"]), value).is_none(), "{entry} comes twice");
    }
    found
}

/// Whether a selector takes these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let plain = selector.get("matchLabels").unwrap_or(selector);
    let equal = plain.as_object().expect("labels").iter().all(|(key, value)| labels[key] == *value);
    let expressions = list(&selector["matchExpressions"]);
    equal
        && expressions.iter().all(|one| {
            assert_eq!(one["operator"], "In");
            list(&one["values"]).contains(&labels[text(&one["key"])])
        })
}

fn labels(pod: &Value) -> &Value {
    &pod["metadata"]["labels"]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_variable_can_be_set_and_none_that_does_not_exist() {
    let Some(chart) = Chart::found() else { return };
    let known: BTreeSet<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    let mut set_by_some = BTreeSet::new();
    for set in SETS {
        let manifests = chart.newest(set, &[]).await;
        for (kind, pod) in manifests.pods() {
            for name in environment(pod).keys().filter(|name| !OF_OTHERS.contains(name)) {
                assert!(known.contains(name), "{set}: the {kind} sets {name}, which nobody reads");
                set_by_some.insert((*name).to_owned());
            }
        }
    }
    let missing: Vec<_> = known.into_iter().filter(|name| !set_by_some.contains(*name)).collect();
    assert_eq!(missing, NOT_SET);
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_arrive_as_they_are_meant() {
    let Some(chart) = Chart::found() else { return };
    let manifests = chart.newest("everything", &[]).await;
    let variables = environment(manifests.server());
    let value = |name: &str| variables[name].expect("a value");
    // A number of a values file is a float to Helm.
    assert_eq!(value("GITHUB_APP_INSTALLATION_ID"), "12345678");
    assert_eq!(value("SYNC_ENABLED"), "true");
    assert_eq!(value("TRUSTED_PROXIES"), "10.0.0.0/8,192.168.7.1");
    let issuers: Value = serde_json::from_str(value("OIDC_EXTRA_ISSUERS")).expect("JSON");
    assert_eq!(issuers[1]["jwks_url"], "https://oidc.example.com/clusters/a/keys");
    let off = ["--set", "config.SYNC_ENABLED=false,config.GITHUB_APP_ID=9007199254740991"];
    let manifests = chart.newest("minimal", &off).await;
    let variables = environment(manifests.server());
    assert_eq!(variables["SYNC_ENABLED"], Ok("false"), "false is not the same as absent");
    assert_eq!(variables["GITHUB_APP_ID"], Ok("9007199254740991"));
    // What nobody set stays the broker's own default.
    assert!(!variables.contains_key("LEASE_SECONDS"));
    for (more, url) in [
        ("ingress.enabled=true,ingress.host=a.example.com", "https://a.example.com"),
        ("tls.enabled=true,tls.secretName=pair", "https://rb-runner-broker.ci.svc:443"),
        ("containerPort=9000", "http://rb-runner-broker.ci.svc:80"),
    ] {
        let manifests = chart.newest("default", &["--set", more]).await;
        assert_eq!(environment(manifests.server())["PUBLIC_URL"], Ok(url));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_what_is_rendered_nor_can_one_be_put_into_the_values() {
    let Some(chart) = Chart::found() else { return };
    for set in SETS {
        let manifests = chart.newest(set, &[]).await;
        assert!(manifests.all("Secret").is_empty(), "{set}");
        for (kind, pod) in manifests.pods() {
            for (name, value) in environment(pod) {
                let is_reference = matches!(value, Err(from) if from["secretKeyRef"]["key"].is_string());
                assert_eq!(is_reference, SECRET.contains(&name), "{set}: {name} of the {kind}");
            }
        }
        for map in manifests.all("ConfigMap") {
            let data = map["data"].to_string();
            for sign in ["PRIVATE KEY", "postgres://", "client_secret\\\""] {
                assert!(!data.contains(sign), "{set}: {sign} is in a ConfigMap");
            }
        }
    }
    for hidden in SECRET.iter().chain(&NOT_SET) {
        let refusal = chart.refusal(&["--set-string", &format!("config.{hidden}=x")]).await;
        assert!(refusal.contains(hidden), "{hidden}: {refusal}");
    }
    let provider = json!([{ "id": "a", "kind": "github", "client_id": "a", "client_secret": "hidden" }]);
    let refusal = chart.refusal(&["--set-json", &format!("config.LOGIN_PROVIDERS={provider}")]).await;
    assert!(refusal.contains("client_secret"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_has_a_role_of_its_own_and_needs_nothing_that_comes_with_the_release() {
    let Some(chart) = Chart::found() else { return };
    for set in SETS {
        let manifests = chart.newest(set, &[]).await;
        let job = manifests.one("Job", "");
        let pod = &job["spec"]["template"];
        let own = environment(pod)["DATABASE_URL"].expect_err("a reference");
        let services = environment(manifests.server())["DATABASE_URL"].expect_err("a reference");
        assert_ne!(own, services, "{set}");
        assert_eq!(container(pod)["args"], json!(["migrate", "--service-role", "broker"]), "{set}");
        // No other secret either.
        assert_eq!(environment(pod).values().filter(|value| value.is_err()).count(), 1, "{set}");
        // Its name is another one if its pod is, where nobody removes the one before.
        let is_hook = job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade";
        assert_eq!(is_hook, set != "minimal", "{set}");
        // What it refers to is not what this release brings: that comes later.
        let brought: BTreeSet<&str> =
            manifests.0.iter().map(|document| text(&document["metadata"]["name"])).collect();
        assert!(!brought.contains(text(&pod["spec"]["serviceAccountName"])), "{set}");
        for volume in list(&pod["spec"]["volumes"]) {
            let source = volume["secret"]["secretName"].as_str().or(volume["configMap"]["name"].as_str());
            assert!(!brought.contains(source.expect("a Secret or a ConfigMap")), "{set}: {volume}");
        }
        for policy in manifests.all("NetworkPolicy") {
            let is_its = selects(&policy["spec"]["podSelector"], labels(pod));
            assert_eq!(is_its, policy["metadata"]["annotations"]["helm.sh/hook"].is_string(), "{set}");
        }
    }
    let name = |manifests: &Manifests| manifests.one("Job", "")["metadata"]["name"].clone();
    let (before, after) =
        (chart.newest("minimal", &[]).await, chart.newest("minimal", &["--set", "image.tag=v2"]).await);
    assert_ne!(name(&before), name(&after));
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_take_the_pods_that_are_meant_and_no_others() {
    let Some(chart) = Chart::found() else { return };
    for set in SETS {
        let manifests = chart.newest(set, &[]).await;
        let deployment = manifests.one("Deployment", "");
        let mut selectors = vec![&manifests.one("Service", "")["spec"]["selector"]];
        selectors.push(&deployment["spec"]["selector"]);
        selectors.extend(manifests.all("PodDisruptionBudget").iter().map(|one| &one["spec"]["selector"]));
        let spread = list(&manifests.server()["spec"]["topologySpreadConstraints"]);
        selectors.extend(spread.iter().map(|one| &one["labelSelector"]));
        for selector in selectors {
            for (kind, pod) in manifests.pods() {
                assert_eq!(selects(selector, labels(pod)), kind == "Deployment", "{set}: {selector} {kind}");
            }
        }
        for policy in manifests.all("NetworkPolicy") {
            let is_of_migrate = policy["metadata"]["annotations"]["helm.sh/hook"].is_string();
            for (kind, pod) in manifests.pods() {
                let is_its = selects(&policy["spec"]["podSelector"], labels(pod));
                assert_eq!(is_its, (kind == "Job") == is_of_migrate, "{set}: {kind}");
            }
        }
        for monitor in manifests.all("ServiceMonitor") {
            assert!(selects(&monitor["spec"]["selector"], labels(manifests.one("Service", ""))), "{set}");
            let port = &monitor["spec"]["endpoints"][0]["port"];
            assert!(named(&manifests.one("Service", "")["spec"]["ports"], text(port)).is_some());
        }
        for scaler in manifests.all("HorizontalPodAutoscaler") {
            assert_eq!(scaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
            assert!(deployment["spec"]["replicas"].is_null(), "it would be scaled back with each upgrade");
        }
        let service = &manifests.one("Service", "")["metadata"]["name"];
        let rules =
            |kind: &str| manifests.all(kind).iter().map(|one| one["spec"].to_string()).collect::<String>();
        for route in [rules("Ingress"), rules("HTTPRoute")].iter().filter(|route| !route.is_empty()) {
            assert!(route.contains(&format!("\"name\":{service}")), "{set}: {route}");
        }
        // A version in it would forbid each upgrade.
        assert!(!deployment["spec"]["selector"].to_string().contains("version"), "{set}");
    }
    // Two releases in one namespace are two.
    let manifests = chart.newest("default", &[]).await;
    assert_eq!(labels(manifests.server())["app.kubernetes.io/instance"], "rb");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_has_the_time_that_it_may_take() {
    let Some(chart) = Chart::found() else { return };
    for set in SETS {
        for kubernetes in KUBERNETES {
            let manifests = chart.render(set, kubernetes, &[]).await;
            let pod = manifests.server();
            let given = environment(pod).get("GITHUB_TIMEOUT_SECONDS").and_then(|value| value.ok());
            let of_broker = VARIABLES.iter().find(|one| one.name == "GITHUB_TIMEOUT_SECONDS");
            let timeout = given.or(of_broker.expect("a variable").default).expect("a default");
            let timeout: u64 = timeout.parse().expect("a number");
            let pause = container(pod)["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
            let sleeps = set != "minimal" && kubernetes == "1.37";
            assert_eq!(pause, sleeps.then_some(5), "{set} for {kubernetes}");
            let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number");
            assert!(grace >= 3 * timeout + 5 + pause.unwrap_or(0), "{set} for {kubernetes}: {grace}");
        }
    }
    let refusal = chart.refusal(&["--set", "terminationGracePeriodSeconds=30"]).await;
    assert!(refusal.contains("30 is too short"), "{refusal}");
    let longer = chart.newest("default", &["--set", "terminationGracePeriodSeconds=90"]).await;
    assert_eq!(longer.server()["spec"]["terminationGracePeriodSeconds"], 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_prometheus_ask_for_what_exists_where_it_is() {
    let Some(chart) = Chart::found() else { return };
    let document = std::fs::read_to_string(openapi()).expect("the document");
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let exists = |path: &Value| document["paths"][text(path)]["get"].is_object();
    for set in SETS {
        let manifests = chart.newest(set, &[]).await;
        let pod = manifests.server();
        let variables = environment(pod);
        let port = named(&container(pod)["ports"], "http").expect("a port");
        assert_eq!(Ok(port["containerPort"].to_string().as_str()), variables["PORT"], "{set}");
        let scheme = if variables["HTTPS_ENABLED"] == Ok("true") { "HTTPS" } else { "HTTP" };
        for (probe, path) in [
            ("startupProbe", "/health/live"),
            ("livenessProbe", "/health/live"),
            ("readinessProbe", "/health/ready"),
        ] {
            let asks = &container(pod)[probe]["httpGet"];
            assert!(exists(&asks["path"]), "{set}: {asks}");
            assert_eq!(*asks, json!({ "path": path, "port": "http", "scheme": scheme }), "{set}: {probe}");
        }
        let service = named(&manifests.one("Service", "")["spec"]["ports"], "http").expect("a port");
        assert_eq!(service["targetPort"], "http", "{set}");
        for monitor in manifests.all("ServiceMonitor") {
            let endpoint = &monitor["spec"]["endpoints"][0];
            assert!(exists(&endpoint["path"]), "{set}");
            assert_eq!(text(&endpoint["scheme"]).to_uppercase(), scheme, "{set}");
            // What the dashboard and the rules look for.
            let job = json!({ "targetLabel": "job", "replacement": "runner-broker" });
            assert!(list(&endpoint["relabelings"]).contains(&job), "{set}");
        }
    }
}

/// The ports that a rule lets through, as (port, protocol); `None`: all.
fn ports(rules: &Value) -> Vec<(Value, &str)> {
    let all = list(rules).iter().flat_map(|rule| list(&rule["ports"]));
    all.map(|one| (one["port"].clone(), one["protocol"].as_str().unwrap_or("TCP"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_network_policy_lets_through_what_is_in_use() {
    let Some(chart) = Chart::found() else { return };
    for set in ["own-tls", "everything"] {
        let manifests = chart.newest(set, &[]).await;
        for (kind, pod) in manifests.pods() {
            let its = |one: &&&Value| selects(&one["spec"]["podSelector"], labels(pod));
            let policies = manifests.all("NetworkPolicy");
            let policies: Vec<_> = policies.iter().filter(its).collect();
            assert_eq!(policies.len(), 1, "{set}: {kind}");
            let spec = &policies[0]["spec"];
            assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
            let out = ports(&spec["egress"]);
            for (port, protocol) in [(53, "UDP"), (53, "TCP"), (5432, "TCP")] {
                assert!(out.contains(&(json!(port), protocol)), "{set}: {kind} {port}");
            }
            let asks_the_world = kind != "Job";
            assert_eq!(out.contains(&(json!(443), "TCP")), asks_the_world, "{set}: {kind}");
            let is_called = ports(&spec["ingress"]).contains(&(json!("http"), "TCP"));
            assert_eq!(is_called, asks_the_world, "{set}: {kind}");
            if let Some(Ok(collector)) = environment(pod).get("OTEL_EXPORTER_OTLP_ENDPOINT") {
                let url = url::Url::parse(collector).expect("a URL");
                assert!(out.contains(&(json!(url.port()), "TCP")), "{set}: {kind} {collector}");
            }
        }
    }
    let manifests = chart.newest("default", &["--set", "networkPolicy.enabled=true"]).await;
    let rules = manifests.one("NetworkPolicy", "broker")["spec"]["ingress"].to_string();
    for namespace in ["ingress-nginx", "monitoring"] {
        assert!(rules.contains(namespace), "{rules}");
    }
    let open = ["--set-json", "networkPolicy={\"enabled\":true,\"ingressFrom\":[]}"];
    let manifests = chart.newest("default", &open).await;
    let first = &manifests.one("NetworkPolicy", "broker")["spec"]["ingress"][0];
    assert!(first["from"].is_null(), "an empty list means everybody: {first}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_may_do_no_more_than_they_need() {
    let Some(chart) = Chart::found() else { return };
    for set in SETS {
        let manifests = chart.newest(set, &[]).await;
        for (kind, pod) in manifests.pods() {
            let spec = &pod["spec"];
            let name = format!("{set}: {kind}");
            assert_eq!(spec["automountServiceAccountToken"], false, "{name}");
            assert_eq!(spec["enableServiceLinks"], false, "{name}");
            assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{name}");
            assert_eq!(spec["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
            // OpenShift chooses the user itself.
            let user = (set != "own-tls").then_some(65532);
            assert_eq!(spec["securityContext"]["runAsUser"].as_u64(), user, "{name}");
            assert_eq!(spec["securityContext"]["fsGroup"].as_u64(), user, "{name}");
            let context = &container(pod)["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
            for kind in ["requests", "limits"] {
                assert!(container(pod)["resources"][kind]["memory"].is_string(), "{name}");
            }
            for volume in list(&spec["volumes"]).iter().filter(|volume| volume["secret"].is_object()) {
                assert_eq!(volume["secret"]["defaultMode"], 0o440, "{name}: {volume}");
            }
            for mount in list(&container(pod)["volumeMounts"]) {
                assert!(mount["subPath"].is_null(), "{name}: {mount} would never change");
                assert!(named(&spec["volumes"], text(&mount["name"])).is_some(), "{name}: {mount}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_rolls_the_pods_and_arrives_word_for_word() {
    let Some(chart) = Chart::found() else { return };
    let written = chart.yaml(&chart_folder().join("ci/own-tls-values.yaml")).await;
    let written = text(&written[0]["policy"]["inline"]);
    let mut sums = BTreeSet::new();
    for inline in [written, "[[team]]\nname = \"other\""] {
        let more = ["--set-json", &format!("policy.inline={}", json!(inline))];
        let manifests = chart.newest("own-tls", &more).await;
        let map = manifests.one("ConfigMap", "-policy");
        assert_eq!(map["data"]["policy.toml"], inline);
        let pod = manifests.server();
        assert_eq!(
            named(&pod["spec"]["volumes"], "policy").unwrap()["configMap"]["name"],
            map["metadata"]["name"]
        );
        assert_eq!(environment(pod)["POLICY_FILE"], Ok("/etc/runner-broker/policy/policy.toml"));
        sums.insert(text(&pod["metadata"]["annotations"]["checksum/policy"]).to_owned());
    }
    assert_eq!(sums.len(), 2);
}
