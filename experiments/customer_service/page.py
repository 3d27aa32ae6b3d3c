"""A conversation as an HTML page: each message, the reply, and why it was given."""

import json

from experiments.customer_service.conversation import Conversation, Reply
from research.util import markup
from research.util.markup import tag

CSS = """\
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
p { margin: 0.2rem 0; padding: 0.5rem 0.8rem; border-radius: 0.6rem; width: fit-content; overflow-wrap: anywhere }
.message { background: #dbeafe; margin: 1.2rem 0 0.2rem auto } .reply { background: #eee } .hand_over { background: #fde2d0 }
.why { color: #666; font-size: 0.8rem; padding: 0 0.8rem }"""


def page(conversation: Conversation, title: str = "Customer service") -> str:
    """The page. All texts are escaped."""
    body = [tag("h1", title)]
    for message, reply in conversation.turns:
        shown = tag("p", reply.text, class_="reply hand_over" if reply.kind == "hand_over" else "reply")
        body += [tag("p", message, class_="message"), shown, tag("p", why(reply), class_="why")]
    return markup.page(title, CSS, *body)


def why(reply: Reply) -> str:
    """Which part replied, how sure it was, and its evidence, in a line."""
    evidence = json.dumps(reply.evidence, ensure_ascii=False)
    return f"{reply.kind}, by {reply.part}, {reply.confidence:.3f}: {evidence}"
