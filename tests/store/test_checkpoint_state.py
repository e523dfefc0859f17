"""The last checkpoint and the key that signs next, as the rows say."""

from relay.store import checkpoint_state, signing_key
from relay.store.checkpoint_state import CheckpointState
from relay.store.reader import AuditReader
from tests.audit_rows import Relay


def test_a_log_without_checkpoints_has_no_key(writer, path):
    """Only the number of the last row is known."""
    writer.append(Relay().day())
    with AuditReader(path) as reader:
        assert checkpoint_state.standing(reader) == CheckpointState(head=11, sealed=0)


def test_a_checkpoint_names_the_next_key(writer, path):
    """The key that a checkpoint announces has the epoch after the checkpoint's own."""
    relay = Relay()
    checkpoint = relay.event("audit.sealed", epoch=4, within=600, next="NEXT", count=11)
    writer.append([*relay.day(), checkpoint])
    with AuditReader(path) as reader:
        state = checkpoint_state.standing(reader)
    assert state == CheckpointState(head=12, sealed=12, time=checkpoint.time, within=600, key="NEXT", epoch=5)


def test_a_new_sequence_of_keys_is_announced_in_the_log(writer, path):
    """The key's epoch is beyond those of the log, its private half is on the disk, and its row is the last one."""
    relay = Relay()
    writer.append([relay.event("audit.sealed", epoch=4, within=600, next="NEXT", count=0)])
    writer.close()
    key = checkpoint_state.begin(
        path.parent, path, node="relay", reason="restored", event=lambda name, fields: relay.event(name, **fields)
    )
    assert key.epoch == 6
    assert key.public in signing_key.load(path.parent)
    with AuditReader(path) as reader:
        state = checkpoint_state.standing(reader)
    assert (state.head, state.sealed, state.key, state.epoch) == (2, 1, key.public, 6)
