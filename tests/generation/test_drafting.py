"""The prompt that asks for a question: a list to go on with, or a message."""

from lmsi_cli.generation.drafting import REQUEST, draft_prompt
from lmsi_cli.prompts import Chat
from lmsi_cli.records import Message

SHOWN = ["What is 1 + 2?\r\n", " What is 3 * 4?"]


def test_a_base_model_goes_on_with_a_list():
    assert draft_prompt(SHOWN, None) == "Q: What is 1 + 2?\n\nQ: What is 3 * 4?\n\nQ:"


def test_a_chat_model_is_asked():
    blocks = "Q: What is 1 + 2?\n\nQ: What is 3 * 4?"
    asked = Message(role="user", content=f"Here are some questions.\n\n{blocks}\n\n{REQUEST}")
    assert draft_prompt(SHOWN, Chat(few_shot="turns", system="")) == (asked,)
    system = Message(role="system", content="Be brief.")
    assert draft_prompt(SHOWN, Chat(few_shot="turns", system=" Be brief. ")) == (system, asked)
