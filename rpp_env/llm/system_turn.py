"""What becomes of a system turn where a chat template has none, the same for every backend."""


def system_in_user(*, system: str, user: str) -> str:
    """The text of a user turn that begins with the text of the system turn."""
    return f"{system}\n\n{user}" if system else user
