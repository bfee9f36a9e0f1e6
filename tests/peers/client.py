"""Uses a client that openapi-generator made: provisions a JIT runner, lists runners, prints both as JSON."""

import json
import os

import runner_broker_client as broker

configuration = broker.Configuration(host=os.environ["BROKER_URL"], access_token=os.environ["BROKER_TOKEN"])
with broker.ApiClient(configuration) as client:
    runners = broker.RunnersApi(client)
    made = runners.provision_jit_runner(broker.JitRequest(runner_name="from-python", labels=["docker"]))
    assert made.labels == ["docker", "linux", "self-hosted", "x64"], made.labels
    seen = runners.get_runner(made.runner_name)
    assert (seen.status, seen.runner_id) == ("pending", made.runner_id), seen
    assert [event.event_type for event in seen.events] == ["provisioned", "provision_requested"], seen.events
    try:
        runners.provision_jit_runner(broker.JitRequest(runner_name="refused", labels=["gpu"]))
        raise AssertionError("not refused")
    except broker.ApiException as refusal:
        assert refusal.status == 403, refusal
        assert json.loads(refusal.body)["error_code"] == "LABEL_POLICY_VIOLATION", refusal.body
    listed = runners.list_runners(status="pending", limit=10)

print(
    json.dumps(
        {
            "runner_name": made.runner_name,
            "encoded_jit_config": made.encoded_jit_config,
            "listed": len(listed.runners),
        }
    )
)
