"""Reads OTLP profiles by OpenTelemetry's own messages, and prints what is in each, as a list in JSON.

`problems` has what is against the rules that profiles.proto of opentelemetry-proto states.
"""

import json
import sys

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.profiles.v1development.profiles_pb2 import ProfilesData

problems = []


def check(holds, what):
    if not holds and what not in problems:
        problems.append(what)


def unknown(message, path):
    """No field is written that the newest messages do not have."""
    for field in UnknownFieldSet(message):
        check(False, f"{path}: unknown field {field.field_number}")
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        for part in value if descriptor.is_repeated else [value]:
            unknown(part, f"{path}.{descriptor.name}")


class Dictionary:
    """The tables, and which of their entries are referenced."""

    TABLES = ("mapping", "location", "function", "link", "string", "attribute", "stack")

    def __init__(self, message):
        self.tables = {name: getattr(message, f"{name}_table") for name in self.TABLES}
        self.used = {name: {0} for name in self.TABLES}
        for name, table in self.tables.items():
            as_bytes = [entry.encode() if name == "string" else entry.SerializeToString(deterministic=True) for entry in table]
            check(as_bytes[:1] == [b""], f"the first {name} is not the one that means none")
            check(len(set(as_bytes)) == len(as_bytes), f"{name} table has an entry twice")

    def get(self, name, index):
        table = self.tables[name]
        if not 0 <= index < len(table):
            check(False, f"no {name} {index}")
            return table[0]
        self.used[name].add(index)
        return table[index]

    def string(self, index):
        return self.get("string", index)

    def attributes(self, indices, of):
        found = {}
        for index in indices:
            attribute = self.get("attribute", index)
            key = self.string(attribute.key_strindex)
            check(key and key not in found, f"{of}: attribute {key!r} is empty or there twice")
            found[key] = value_of(attribute.value)
            check(self.string(attribute.unit_strindex) == "", f"{of}: unit of {key}")
        return found

    def frames(self, stack):
        """Functions and their places, leaf first."""
        frames = []
        for index in stack.location_indices:
            check(index != 0, "a stack with no location at a frame")
            location = self.get("location", index)
            mapping = self.get("mapping", location.mapping_index)
            file = self.string(mapping.filename_strindex)
            check(file, "a location in no mapping")
            kind = self.attributes(location.attribute_indices, "location").get("profile.frame.type")
            check(kind in ("native", "kernel"), f"frame type {kind}")
            self.attributes(mapping.attribute_indices, "mapping")
            check(len(location.lines) > 0, "a location without lines")
            for line in location.lines:
                function = self.get("function", line.function_index)
                name = self.string(function.name_strindex)
                check(name and self.string(function.system_name_strindex), "a function without name")
                place = self.string(function.filename_strindex)
                frames.append(f"{name} {place}:{line.line}" if place else name)
        return frames

    def orphans(self):
        for name, table in self.tables.items():
            unused = set(range(len(table))) - self.used[name]
            check(not unused, f"{name} table: nobody names {sorted(unused)}")


def value_of(value):
    kind = value.WhichOneof("value")
    check(kind is not None, "an attribute without value")
    if kind == "array_value":
        return [value_of(entry) for entry in value.array_value.values]
    return getattr(value, kind) if kind else None


def resource_attributes(resource):
    found = {}
    for pair in resource.attributes:
        check(pair.key and pair.key not in found, f"resource: attribute {pair.key!r} is empty or there twice")
        check(pair.key_strindex == 0, "resource: an attribute's key by index")
        found[pair.key] = value_of(pair.value)
    return found


def sample_of(dictionary, sample):
    check(len(sample.values) == 1 and not sample.timestamps_unix_nano, "a sample has not just one value")
    check(sample.link_index == 0, "a sample has a link")
    return {
        "frames": dictionary.frames(dictionary.get("stack", sample.stack_index)),
        "attributes": dictionary.attributes(sample.attribute_indices, "sample"),
        "value": sample.values[0],
    }


def profile_of(dictionary, profile):
    identities = {(sample.stack_index, frozenset(sample.attribute_indices), sample.link_index) for sample in profile.samples}
    check(len(identities) == len(profile.samples), "two samples of one identity")
    return {
        "type": dictionary.string(profile.sample_type.type_strindex),
        "unit": dictionary.string(profile.sample_type.unit_strindex),
        "time_unix_nano": profile.time_unix_nano,
        "duration_nano": profile.duration_nano,
        "samples": [sample_of(dictionary, sample) for sample in profile.samples],
    }


def read(path):
    problems.clear()
    data = ProfilesData()
    with open(path, "rb") as file:
        data.ParseFromString(file.read())
    unknown(data, "ProfilesData")
    dictionary = Dictionary(data.dictionary)
    resources = [
        {
            "attributes": resource_attributes(resource.resource),
            "scopes": [
                {
                    "name": scope.scope.name,
                    "version": scope.scope.version,
                    "profiles": [profile_of(dictionary, profile) for profile in scope.profiles],
                }
                for scope in resource.scope_profiles
            ],
        }
        for resource in data.resource_profiles
    ]
    dictionary.orphans()
    return {"resources": resources, "problems": list(problems)}


json.dump([read(path) for path in sys.argv[1:]], sys.stdout)
