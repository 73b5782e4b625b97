"""Uses a nucleus through AWS's own client, and fails at the first answer the client or the documentation did not expect.

In: the component's environment; personality, pid of the nucleus and its configuration file as arguments.
Out: a line "ok NAME" for every check that passed, in order; an exit status.
"""

import datetime
import faulthandler
import json
import os
import queue
import signal
import sys

import awsiot.greengrasscoreipc
from awscrt.exceptions import AwsCrtError
from awsiot.eventstreamrpc import AccessDeniedError
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

PERSONALITY, NUCLEUS, CONFIGURATION = sys.argv[1], int(sys.argv[2]), sys.argv[3]
LITE = PERSONALITY == "lite"
COMPONENT = "com.example.C"
THING = "gateway-01"
# Seconds to wait for an event: generous, as the machine may be busy with other tests.
LIMIT = 15

CHECKS = []


def check(name, personality=None):
    """Registers a check, of one personality or of both."""

    def register(function):
        if personality in (None, PERSONALITY):
            CHECKS.append((name, function))
        return function

    return register


def expect(actual, expected, what=""):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def refused(error, call, **arguments):
    """Calls, expects this very error, and returns it."""
    try:
        answer = call(**arguments)
    except error as caught:
        expect(type(caught), error)
        return caught
    raise AssertionError(f"expected {error.__name__}, got {answer!r}")


class Stream:
    """A subscription whose events are waited for."""

    def __init__(self, subscribe, **arguments):
        self.events = queue.Queue()
        _, self.operation = subscribe(
            on_stream_event=self.events.put, on_stream_error=self.failed, **arguments
        )

    def failed(self, error):
        self.events.put(error)
        return True

    def next(self):
        event = self.events.get(timeout=LIMIT)
        if isinstance(event, Exception):
            raise event
        return event

    def close(self):
        self.operation.close().result(LIMIT)


@check("a wrong token is refused")
def wrong_token(_):
    try:
        awsiot.greengrasscoreipc.connect(authtoken="0123456789abcdef", timeout=LIMIT)
    except AccessDeniedError:
        # The answer of the classic nucleus, unless the client notices first that the socket is closed behind it.
        expect(LITE, False, "lite answers nothing")
    except AwsCrtError as error:
        expect(error.name, "AWS_IO_SOCKET_CLOSED")
    else:
        raise AssertionError("a wrong token was accepted")


@check("publish and subscribe")
def publish_and_subscribe(client):
    stream = Stream(client.subscribe_to_iot_core, topic_name="test/official", qos="1")
    for payload in (b"", b"hello", bytes(range(256)) * 8):
        client.publish_to_iot_core(topic_name="test/official", qos="1", payload=payload)
        message = stream.next().message
        # The client makes no difference between an absent payload and an empty one.
        expect((message.topic_name, message.payload or b""), ("test/official", payload))
    stream.close()


@check("unsubscribe")
def unsubscribe(client):
    first = Stream(client.subscribe_to_iot_core, topic_name="test/first", qos="0")
    second = Stream(client.subscribe_to_iot_core, topic_name="test/second", qos="0")
    first.close()
    for topic in ("test/first", "test/second"):
        client.publish_to_iot_core(topic_name=topic, qos="1", payload=b"x")
    expect(second.next().message.topic_name, "test/second")
    expect(first.events.qsize(), 0, "events after the unsubscription")
    second.close()


@check("configuration")
def configuration(client):
    answer = client.get_configuration(key_path=["interval"])
    expect(answer.component_name, COMPONENT)
    expect(answer.value, {"interval": "300" if LITE else 300})
    expect(client.get_configuration(key_path=["nested"]).value, {"on": "true" if LITE else True})
    expect("accessControl" in client.get_configuration(key_path=[]).value, True)
    stream = Stream(client.subscribe_to_configuration_update, key_path=["nested"])
    client.update_configuration(
        key_path=["nested"],
        timestamp=datetime.datetime.now(datetime.timezone.utc),
        value_to_merge={"from": "python"},
    )
    event = stream.next().configuration_update_event
    expect((event.component_name, event.key_path), (COMPONENT, ["nested", "from"]))
    expect(client.get_configuration(key_path=["nested", "from"]).value, {"from": "python"})
    stream.close()


@check("state")
def state(client):
    client.update_state(state=model.ReportedLifecycleState.RUNNING)


@check("local publish and subscribe")
def local(client):
    stream = Stream(client.subscribe_to_topic, topic="local/official")
    content = {"text": "grüß", "list": [1, 2.5, None]}
    client.publish_to_topic(
        topic="local/official",
        publish_message=model.PublishMessage(json_message=model.JsonMessage(message=content)),
    )
    message = stream.next().json_message
    expect((message.message, message.context.topic), (content, "local/official"))
    client.publish_to_topic(
        topic="local/official",
        publish_message=model.PublishMessage(binary_message=model.BinaryMessage(message=b"\0\xff")),
    )
    message = stream.next().binary_message
    expect((message.message, message.context.topic), (b"\0\xff", "local/official"))
    stream.close()


@check("connection status")
def connection_status(client):
    stream = Stream(client.subscribe_to_iot_core_connection_status)
    expect(stream.next().connection_status_event.status, "CONNECTED")
    stream.close()


@check("errors")
def errors(client):
    unauthorized = refused(
        model.UnauthorizedError, client.publish_to_iot_core, topic_name="other", qos="0", payload=b""
    )
    missing = refused(model.ResourceNotFoundError, client.get_configuration, key_path=["none"])
    if LITE:
        # Lite has no "message", where the client looks.
        expect((unauthorized.message, missing.message), (None, None))
    else:
        expect(missing.message, "Key not found.")
        expect(COMPONENT in unauthorized.message, True)
    # A stream that is refused is over, and the connection is not.
    refused(
        model.UnauthorizedError,
        client.subscribe_to_iot_core,
        topic_name="#",
        qos="1",
        on_stream_event=lambda event: None,
    )
    client.get_configuration(key_path=["interval"])


@check("restart")
def restart(client):
    answer = client.restart_component(component_name=COMPONENT)
    expect(answer.restart_status, model.RequestStatus.SUCCEEDED)
    refused(model.UnauthorizedError, client.restart_component, component_name="com.example.Secret")


@check("properties of MQTT 5", "classic")
def properties(client):
    stream = Stream(client.subscribe_to_iot_core, topic_name="test/properties", qos="1")
    properties = {
        "user_properties": [model.UserProperty(key="k", value="v")],
        "correlation_data": b"\0\xff",
        "response_topic": "test/answers",
        "payload_format": model.PayloadFormat.UTF8,
        "content_type": "text/plain",
    }
    client.publish_to_iot_core(topic_name="test/properties", qos="1", payload=b"x", **properties)
    message = stream.next().message
    for name, value in properties.items():
        expect(getattr(message, name), value, name)
    stream.close()


@check("shadows", "classic")
def shadows(client):
    prefix = f"$aws/things/{THING}/shadow/name/official"
    stream = Stream(client.subscribe_to_topic, topic=f"{prefix}/#")

    def told():
        message = stream.next().binary_message
        return message.context.topic[len(prefix) + 1 :], json.loads(message.message)

    target = {"thing_name": THING, "shadow_name": "official"}
    update = {"state": {"desired": {"a": 1}, "reported": {"a": 0}}, "clientToken": "python"}
    accepted = json.loads(client.update_thing_shadow(**target, payload=json.dumps(update).encode()).payload)
    expect((accepted["state"], accepted["version"]), (update["state"], 1))
    expect([told()[0] for _ in range(3)], ["update/delta", "update/documents", "update/accepted"])
    document = json.loads(client.get_thing_shadow(**target).payload)
    expect(document["state"], {**update["state"], "delta": {"a": 1}})
    expect(told(), ("get/accepted", document))
    listed = client.list_named_shadows_for_thing(thing_name=THING)
    expect(listed.results, ["official"])
    expect(abs(listed.timestamp.timestamp() - datetime.datetime.now().timestamp()) < LIMIT, True)
    # The client makes no difference between an absent payload and an empty one.
    expect(client.delete_thing_shadow(**target).payload or b"", b"")
    expect(told()[0], "delete/accepted")
    expect(client.list_named_shadows_for_thing(thing_name=THING).results, [])
    stream.close()


@check("shadow errors", "classic")
def shadow_errors(client):
    target = {"thing_name": THING, "shadow_name": "missing"}
    refused(model.ResourceNotFoundError, client.get_thing_shadow, **target)
    late = json.dumps({"state": {"reported": {}}, "version": 9}).encode()
    refused(model.ConflictError, client.update_thing_shadow, **target, payload=late)
    refused(model.InvalidArgumentsError, client.update_thing_shadow, **target, payload=b"nonsense")
    refused(model.UnauthorizedError, client.get_thing_shadow, thing_name="other", shadow_name="")


@check("pause, resume and stop", "classic")
def pause_resume_and_stop(client):
    client.pause_component(component_name=COMPONENT)
    client.resume_component(component_name=COMPONENT)
    refused(model.InvalidArgumentsError, client.resume_component, component_name=COMPONENT)
    expect(client.stop_component(component_name=COMPONENT).stop_status, model.RequestStatus.SUCCEEDED)


@check("deployment", "classic")
def deployment(client):
    updates = Stream(client.subscribe_to_component_updates)
    proposals = Stream(client.subscribe_to_validate_configuration_updates)
    with open(CONFIGURATION, "w", encoding="utf-8") as file:
        json.dump({"interval": 7}, file)
    os.kill(NUCLEUS, signal.SIGHUP)
    before = updates.next().pre_update_event
    expect(before.is_ggc_restarting, False)
    client.defer_component_update(deployment_id=before.deployment_id, recheck_after_ms=10)
    again = updates.next().pre_update_event
    expect(again.deployment_id, before.deployment_id)
    client.defer_component_update(deployment_id=again.deployment_id, recheck_after_ms=0)
    proposal = proposals.next().validate_configuration_update_event
    expect((proposal.configuration["interval"], proposal.deployment_id), (7, before.deployment_id))
    expect(client.get_configuration(key_path=["interval"]).value, {"interval": 300})
    client.send_configuration_validity_report(
        configuration_validity_report=model.ConfigurationValidityReport(
            status=model.ConfigurationValidityStatus.ACCEPTED, deployment_id=proposal.deployment_id
        )
    )
    expect(updates.next().post_update_event.deployment_id, before.deployment_id)
    expect(client.get_configuration(key_path=["interval"]).value, {"interval": 7})
    for stream in (updates, proposals):
        stream.close()


@check("metrics", "classic")
def metrics(client):
    metric = model.Metric(name="Packets", unit=model.MetricUnitType.COUNT, value=1.0)
    refused(model.UnauthorizedError, client.put_component_metric, metrics=[metric])


@check("unsupported operations", "lite")
def unsupported(client):
    for call, arguments in (
        (client.pause_component, {"component_name": COMPONENT}),
        (client.stop_component, {"component_name": COMPONENT}),
        (client.get_thing_shadow, {"thing_name": THING, "shadow_name": ""}),
        (client.list_named_shadows_for_thing, {"thing_name": THING}),
        (client.defer_component_update, {"deployment_id": "x", "recheck_after_ms": 0}),
        (client.get_secret_value, {"secret_id": "x"}),
        (client.list_components, {}),
    ):
        refused(model.ServiceError, call, **arguments)
    refused(
        model.ServiceError, client.subscribe_to_component_updates, on_stream_event=lambda event: None
    )


def main():
    # The client's calls have no limit of their own: show where it hangs, and end.
    faulthandler.dump_traceback_later(3 * LIMIT, exit=True)
    client = GreengrassCoreIPCClientV2()
    for name, function in CHECKS:
        function(client)
        print("ok", name, flush=True)
    client.close().result(LIMIT)


main()
