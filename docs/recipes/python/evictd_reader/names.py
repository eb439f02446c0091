"""The names that evictd knows: of keys, their markers and tags. Pure; bytes, as Redis has them."""

import datetime
import string
import uuid


class WrongName(ValueError):
    """A key or tag that evictd could not know by the same name: a mistake in the program, never cached."""


class NoName(Exception):
    """A placeholder is None: evictd makes no key of a NULL, so nothing may be cached under one."""


def text_of(value):
    """The text that evictd's rules give a column of this type (docs/rules.md, "The text of a value")."""
    if value is None:
        raise NoName
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, uuid.UUID)):
        return str(value)
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    raise WrongName(f"expected a text, integer, boolean, UUID or date in a key or tag, got {type(value).__name__}: "
                    "give a function that renders it as the rule does")


class _Template(string.Formatter):
    def format_field(self, value, format_spec):
        return format(value, format_spec) if format_spec else text_of(value)


def check_template(template, names):
    """That a template names nothing but these arguments."""
    for _, field, _, _ in string.Formatter().parse(template) if isinstance(template, str) else ():
        name = field and field.partition(".")[0].partition("[")[0]
        if field is not None and name not in names:
            raise WrongName(f"'{template}' names '{name}', and the function has {', '.join(names) or 'no argument'}")


def render(template, arguments, args=(), kwargs=None):
    """'product:{id}' with the arguments of a call by name; a function is called as the call was. Doubled braces are text, as in
    rules."""
    text = template(*args, **(kwargs or {})) if callable(template) else _Template().vformat(template, (), arguments)
    if text is None:
        raise NoName
    return text.encode() if isinstance(text, str) else bytes(text)


def hash_tag(name):
    """What Redis Cluster takes the slot from: what is between the first braces, when there is something; else None."""
    opened = name.find(b"{")
    closed = name.find(b"}", opened + 1) if opened >= 0 else -1
    return name[opened + 1:closed] if closed > opened + 1 else None


def marker_of(name):
    """The marker of a key or of a tag's set: its small companion, in the same slot."""
    return b"evictd:" + name if hash_tag(name) is not None else b"evictd:{" + name + b"}"


def check_key(key):
    if not key or key.startswith((b"evictd:", b"tag:")):
        raise WrongName(f"expected the key of a cached value, got {key!r}")
    return key


def tag_set(tag):
    """The set of the keys that carry a tag."""
    return b"tag:" + tag


def tag_marker(tag):
    """The tag's marker: of a lazy tag all there is."""
    return marker_of(tag_set(tag))
