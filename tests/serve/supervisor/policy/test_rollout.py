"""Rollout: a changed site reaches the workers whole or not at all, and a revoked key at once."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from relay.serve.supervisor.policy.rollout import Rollout
from relay.site import locate
from tests.relay_process import POLICY
from tests.serve.kept import Kept
from tests.serve.supervisor.linked_worker import LinkedWorker


class Scene:
    """A site directory, its rollout, and one worker."""

    def __init__(self, directory: Path) -> None:
        self.site = directory
        for name in ("policies", "keys"):
            (directory / name).mkdir()
        (directory / "relay.yaml").write_text("workers: 1\n")
        (directory / "policies" / "main.yaml").write_text(POLICY)
        public = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        (directory / "keys" / "alice.pub").write_bytes(public + b"\n")
        self.worker = LinkedWorker(directory)
        self.audit = Kept()
        self.rollout = Rollout(locate.find(str(directory), {}), self.worker.pool, self.audit)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A site that has been applied."""
    made = Scene(tmp_path)
    await made.rollout.start()
    yield made
    made.worker.close()


async def test_a_worker_is_sent_settings_policy_and_keys(scene: Scene) -> None:
    """The messages of one configuration are complete: the first and the last of each document are marked."""
    await scene.rollout.send_all()
    (settings,) = await scene.worker.wait_for("settings")
    policy, keys = await scene.worker.wait_for("policy"), await scene.worker.wait_for("keys")
    assert settings["settings"]["workers"] == 1
    assert policy[0]["first"]
    assert policy[-1]["last"]
    assert policy[0]["version"] == scene.rollout.applied.document.version
    assert "alice" in "".join(keys[0]["lines"])


async def test_a_site_with_faults_changes_nothing(scene: Scene) -> None:
    """The answer names file and line, the rejection is recorded, and no worker is sent anything."""
    version = scene.rollout.applied.document.version
    with (scene.site / "policies" / "main.yaml").open("a") as file:
        file.write("  - {name: broken, alow: [alice]}\n")
    answer = await scene.rollout.reload({})
    assert not answer["ok"]
    assert answer["faults"][0][0] == "policies/main.yaml"
    assert scene.rollout.faults
    assert scene.rollout.applied.document.version == version
    assert scene.audit.names() == ["site.rejected"]
    assert scene.worker.received == []


async def test_a_reload_is_sent_and_recorded_with_its_changes(scene: Scene) -> None:
    """A changed setting is named in the answer, recorded in one row, and sent to the worker."""
    (scene.site / "relay.yaml").write_text("workers: 1\nlimits: {dials: 100}\n")
    answer = await scene.rollout.reload({"by": {"by_uid": 0, "other": 1}})
    assert "limits.dials: 512 -> 100" in answer["changed"]
    (row,) = scene.audit.events
    assert (row.name, row.fields["by_uid"]) == ("site.applied", 0)
    (message,) = await scene.worker.wait_for("settings")
    assert message["settings"]["limits"]["dials"] == 100


async def test_a_removed_key_file_takes_effect_by_itself(scene: Scene) -> None:
    """Without a reload the keys are sent anew within seconds, and the removal is recorded."""
    watching = asyncio.create_task(scene.rollout.watch_keys())
    (scene.site / "keys" / "alice.pub").unlink()
    try:
        keys = await scene.worker.wait_for("keys")
    finally:
        watching.cancel()
    assert "alice" not in "".join(line for message in keys for line in message["lines"])
    assert scene.audit.names() == ["key.removed"]
