"""Chat: who may do what in a room, what the room's state keeps, and its views."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventfleet.model.payloads import Command
from eventfleet.testing import AGGREGATE, NOW, given
from examples.chat.domain import (
    MAX_CONTENT_CHARS,
    MAX_KEPT_CHARS,
    MAX_KEPT_MESSAGES,
    DeleteMessage,
    EditMessage,
    Join,
    Leave,
    MemberJoined,
    MemberLeft,
    MessageDeleted,
    MessageEdited,
    MessageSent,
    MessagesRead,
    Read,
    Room,
    SendMessage,
    chat,
)

BY_ANN: dict[str, Any] = {"room_id": AGGREGATE, "sender_id": "ann", "timestamp": NOW}
BY_BOB: dict[str, Any] = BY_ANN | {"sender_id": "bob"}
SENT = MessageSent(message_id="id-1", content="hi", **BY_ANN)


def sent(number: int, content: str = "hi") -> MessageSent:
    return MessageSent(message_id=f"id-{number}", content=content, **BY_ANN)


# Rules


def test_events_are_spelt_as_the_study_spells_them() -> None:
    story = given(chat).when(SendMessage(content="hi"), actor="ann")
    story = story.when(EditMessage(target_message_id="id-1", content="ho"), actor="ann")
    story = story.when(Read(target_message_id="id-1"), actor="bob")
    story = story.when(Join(), actor="bob").when(Leave(), actor="bob")
    story = story.when(DeleteMessage(target_message_id="id-1"), actor="ann")
    types = [event.type for event in story._events]
    assert types[:3] == ["MESSAGE_SENT", "MESSAGE_EDITED", "READ"]
    assert types[3:] == ["MEMBER_JOINED", "MEMBER_LEFT", "MESSAGE_DELETED"]
    sent, edited, read, *_, deleted = (event.data for event in story._events)
    assert (sent["content"], sent["target_message_id"]) == ("hi", None)
    assert (edited["content"], edited["target_message_id"]) == ("ho", "id-1")
    assert (read["content"], read["target_message_id"]) == (None, "id-1")
    assert (deleted["content"], deleted["target_message_id"]) == (None, "id-1")
    assert {event.data["room_id"] for event in story._events} == {AGGREGATE}


def test_a_message_has_the_id_of_its_command_and_the_sender_who_sent_it() -> None:
    told = given(chat).when(SendMessage(content="hi"), actor="bob", command_id="m7")
    told.then(MessageSent(message_id="m7", content="hi", **BY_BOB))


@pytest.mark.parametrize("actor", [None, ""])
def test_what_nobody_sends_is_rejected(actor: str | None) -> None:
    given(chat).when(SendMessage(content="hi"), actor=actor).rejected("nobody is named")


@pytest.mark.parametrize("content", ["", "x" * (MAX_CONTENT_CHARS + 1)], ids=["empty", "too long"])
def test_a_content_is_1_to_2000_characters(content: str) -> None:
    given(chat).when(SendMessage(content=content), actor="ann").invalid("content")
    edit = EditMessage(target_message_id="id-1", content=content)
    given(chat, SENT).when(edit, actor="ann").invalid("content")
    longest = SendMessage(content="😀" * MAX_CONTENT_CHARS)
    assert isinstance(given(chat).when(longest, actor="ann").outcome, list)


@pytest.mark.parametrize(
    "command",
    [EditMessage(target_message_id="id-1", content="ho"), DeleteMessage(target_message_id="id-1")],
)
def test_only_its_sender_edits_and_deletes_a_message(command: Command) -> None:
    given(chat, SENT).when(command, actor="bob").rejected("'id-1' is of another sender")
    assert isinstance(given(chat, SENT).when(command, actor="ann").outcome, list)


@pytest.mark.parametrize(
    "command",
    [
        EditMessage(target_message_id="id-2", content="ho"),
        DeleteMessage(target_message_id="id-2"),
        Read(target_message_id="id-2"),
    ],
)
def test_a_target_that_is_no_message_is_unknown(command: Command) -> None:
    given(chat, SENT).when(command, actor="ann").rejected("no message 'id-2'")
    edited = MessageEdited(target_message_id="id-1", content="ho", **BY_ANN)
    given(chat, SENT, edited).when(command, actor="ann").rejected("no message 'id-2'")


def test_a_message_that_the_state_no_longer_has_is_edited_and_deleted_all_the_same() -> None:
    room = given(chat, *(sent(number) for number in range(1, MAX_KEPT_MESSAGES + 2)))
    assert room.state().message("id-1") is None
    edit = EditMessage(target_message_id="id-1", content="ho")
    room.when(edit, actor="bob").rejected("another sender")
    edited = room.when(edit, actor="ann")
    edited.then(MessageEdited(target_message_id="id-1", content="ho", **BY_ANN))
    edited.when(DeleteMessage(target_message_id="id-1"), actor="ann").then(
        MessageDeleted(target_message_id="id-1", **BY_ANN)
    )


def test_an_edit_or_delete_of_what_is_deleted_changes_nothing() -> None:
    deleted = given(chat, SENT, MessageDeleted(target_message_id="id-1", **BY_ANN))
    before = deleted.state()
    again = deleted.when(EditMessage(target_message_id="id-1", content="ho"), actor="ann")
    again = again.when(DeleteMessage(target_message_id="id-1"), actor="ann")
    assert again.state(messages=before.messages).version == before.version + 2


def test_who_is_in_joins_no_more_and_who_is_out_does_not_leave() -> None:
    joined = given(chat).when(Join(), actor="ann").then(MemberJoined(**BY_ANN))
    joined.when(Join(), actor="ann").rejected("joined already")
    left = joined.when(Leave(), actor="ann").then(MemberLeft(**BY_ANN))
    left.when(Leave(), actor="ann").rejected("has not joined")
    left.state(members=())


# State


def test_a_room_keeps_its_newest_messages_whole() -> None:
    room = given(chat, *(sent(number) for number in range(1, MAX_KEPT_MESSAGES + 51))).state()
    assert [message.id for message in room.messages] == [f"id-{n}" for n in range(51, 251)]
    assert room.from_version == 51
    assert given(chat, SENT).state().from_version == 1


def test_long_messages_leave_room_for_fewer_so_that_a_snapshot_holds_them() -> None:
    fitting = MAX_KEPT_CHARS // MAX_CONTENT_CHARS
    longest = "ш" * MAX_CONTENT_CHARS
    room = given(chat, *(sent(number, longest) for number in range(1, fitting + 3))).state()
    assert [len(room.messages), room.from_version] == [fitting, 3]


def test_messages_are_in_the_order_of_their_versions_not_of_their_times() -> None:
    late = NOW - timedelta(days=1)
    earlier = MessageSent(message_id="id-2", content="ho", **BY_ANN | {"timestamp": late})
    room = given(chat, SENT, earlier).state()
    assert [(message.id, message.version) for message in room.messages] == [
        ("id-1", 1),
        ("id-2", 2),
    ]


def test_unread_are_the_messages_of_others_after_the_read_one() -> None:
    events = [sent(number) for number in range(1, 6)]
    of_bob = MessageSent(message_id="id-6", content="hm", **BY_BOB)
    read = MessagesRead(target_message_id="id-3", **BY_BOB)
    room = given(chat, *events, of_bob)
    assert room.state().unread("bob") == 5
    assert given(chat, *events, of_bob, read).state(read={"bob": 3}).unread("bob") == 2
    gone = MessageDeleted(target_message_id="id-5", **BY_ANN)
    assert given(chat, *events, of_bob, read, gone).state().unread("bob") == 1
    assert room.state().unread("ann") == 1


def test_a_read_position_never_goes_back() -> None:
    events = [sent(number) for number in range(1, 4)]
    reads = [MessagesRead(target_message_id=f"id-{n}", **BY_BOB) for n in (3, 1)]
    given(chat, *events, *reads).state(read={"bob": 3})


def test_who_leaves_takes_the_read_position_along() -> None:
    joined, left = MemberJoined(**BY_BOB), MemberLeft(**BY_BOB)
    read = MessagesRead(target_message_id="id-1", **BY_BOB)
    room = given(chat, SENT, joined, read)
    assert room.state(members=("bob",)).read == {"bob": 1}
    assert room.when(Leave(), actor="bob").then(left).state() == Room(
        version=4, messages=room.state().messages
    )


def test_a_time_is_the_one_at_which_the_command_was_sent() -> None:
    moment = datetime(2020, 2, 2, tzinfo=UTC)
    told = given(chat).when(SendMessage(content="hi"), actor="ann", time=moment)
    told.then(MessageSent(message_id="id-1", content="hi", **BY_ANN | {"timestamp": moment}))
