"""Many schema documents become one self-contained bundle with just the components that a payload needs.

A WSDL spreads its types over inline schemas, imports, includes and includes without a namespace of their own
("chameleons"). Here all of them are read through :class:`connectors.importing.sources.Documents`, taken apart into
their global components, and put together again: one ``xs:schema`` for each namespace, imports by namespace only, in a
``wsdl:types`` element when there are several. Only what the asked elements can reach is put in, so that one operation
with types nobody can read does not spoil its neighbours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import TYPE_CHECKING, Final

from lxml import etree

from connectors.importing.sources import Documents
from schemas.codec import read_xml
from schemas.problem import Malformed

if TYPE_CHECKING:
    from lxml.etree import _Element

WSDL: Final = "http://schemas.xmlsoap.org/wsdl/"
XS: Final = "http://www.w3.org/2001/XMLSchema"
_XML: Final = "http://www.w3.org/XML/1998/namespace"
#: Bounds of one document; a WSDL with all its types is larger and deeper than any payload.
MAX_ELEMENTS: Final = 100_000
MAX_DEPTH: Final = 100

#: Kind and ``{namespace}name`` of a global component. Simple and complex types share one symbol space.
Symbol = tuple[str, str]

_KINDS: Final = {
    f"{{{XS}}}element": "element",
    f"{{{XS}}}attribute": "attribute",
    f"{{{XS}}}complexType": "type",
    f"{{{XS}}}simpleType": "type",
    f"{{{XS}}}group": "group",
    f"{{{XS}}}attributeGroup": "attributeGroup",
}
_WILDCARDS: Final = {f"{{{XS}}}any": "element", f"{{{XS}}}anyAttribute": "attribute"}
_POINTING: Final = {"type": "type", "base": "type", "itemType": "type", "substitutionGroup": "element"}
_DERIVATIONS: Final = tuple(
    f"{path}{{{XS}}}{means}" for path in ("./", "./*/") for means in ("extension", "restriction")
)
_PREFIXED: Final = re.compile(r"([A-Za-z_][\w.-]*):(?![:\s])")


def read_document(documents: Documents, place: str) -> _Element:
    """The root of an XML document at a place. Raises Malformed as :func:`schemas.codec.read_xml` and ``read`` do."""
    return read_xml(documents.read(place), max_depth=MAX_DEPTH, max_elements=MAX_ELEMENTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Component:
    """A global component, its names written with the bundle's prefixes."""

    element: _Element
    refers_to: frozenset[Symbol]
    #: Kinds of global components that its wildcards may let in.
    lets_in: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """Defaults of a schema document that its local declarations inherit."""

    elements: str
    attributes: str


class SchemaSet:
    """The global components of all schema documents of an import. Filled first, then read, by one thread."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._components: dict[Symbol, _Component] = {}
        self._forms: dict[str, _Form] = {}
        self._prefixes: dict[str, str] = {XS: "xs", _XML: "xml"}
        self._numbers = count(1)
        self._seen: set[tuple[str, str]] = set()
        self._inline: set[str] = set()

    def add(self, schemas: Iterable[tuple[_Element, str]]) -> None:
        """Take the inline schemas of a WSDL, each with the place of its document, and all that they import.

        Raises Malformed: reasons of ``Documents``, ``import-schema-namespace``, ``import-schema-redefined``,
        ``import-schema-conflict``, ``import-not-a-schema``.
        """
        given = list(schemas)
        self._inline |= {schema.get("targetNamespace", "") for schema, _ in given}
        for schema, place in given:
            self._add(schema, place, schema.get("targetNamespace", ""))

    def has(self, symbol: Symbol) -> bool:
        """Is there such a component?"""
        return symbol in self._components

    def bundle(self, elements: Iterable[str]) -> _Element:
        """One ``xs:schema``, or several in ``wsdl:types``, with these elements and all that they need.

        Raises Malformed(import-schema-missing) when something that they need is nowhere defined.
        """
        symbols = self._reachable([("element", name) for name in elements])
        by_namespace: dict[str, list[Symbol]] = {}
        for symbol in self._components:  # in the order in which they were read
            if symbol in symbols:
                by_namespace.setdefault(_namespace(symbol[1]), []).append(symbol)
        schemas = [self._schema(namespace, members) for namespace, members in by_namespace.items()]
        if len(schemas) == 1:
            return schemas[0]
        types = etree.Element(f"{{{WSDL}}}types", nsmap={"wsdl": WSDL})
        types.extend(schemas)
        return types

    # Reading

    def _add(self, schema: _Element, place: str, namespace: str) -> None:
        form = _Form(
            elements=schema.get("elementFormDefault", "unqualified"),
            attributes=schema.get("attributeFormDefault", "unqualified"),
        )
        self._forms.setdefault(namespace, form)
        is_chameleon = bool(namespace) and "targetNamespace" not in schema.attrib
        for child in schema.iterchildren("*"):
            name = etree.QName(child).localname
            if name in ("redefine", "override"):
                raise Malformed("import-schema-redefined")
            if name in ("include", "import"):
                self._follow(child, name, place, namespace)
            elif child.tag in _KINDS:
                self._take(child, namespace, form, is_chameleon=is_chameleon)

    def _follow(self, reference: _Element, name: str, place: str, namespace: str) -> None:
        location = reference.get("schemaLocation", "")
        wanted = namespace if name == "include" else reference.get("namespace", "")
        # What has no location can only be inline. The attributes of ``xml`` are known to every reader of ours, and most
        # authors name a location for them that is one DTD away.
        if not location or (name == "import" and wanted in (_XML, XS)):
            return
        at = self._documents.locate(location, place)
        if (at, wanted) in self._seen:
            return
        self._seen.add((at, wanted))
        root = read_document(self._documents, at)
        if root.tag == f"{{{WSDL}}}definitions":
            # Some point back into the WSDL, whose inline schemas are read anyway.
            if wanted in self._inline:
                return
            raise Malformed("import-not-a-schema")
        if root.tag != f"{{{XS}}}schema":
            raise Malformed("import-not-a-schema")
        own = root.get("targetNamespace", "")
        if own != wanted and not (name == "include" and not own):
            raise Malformed("import-schema-namespace")
        self._add(root, at, wanted)

    def _take(self, source: _Element, namespace: str, form: _Form, *, is_chameleon: bool) -> None:
        name = source.get("name")
        if name is None:
            raise Malformed("import-not-a-schema")
        symbol = (_KINDS[str(source.tag)], f"{{{namespace}}}{name}" if namespace else name)
        component = self._rewritten(source, namespace, form, is_chameleon=is_chameleon)
        known = self._components.setdefault(symbol, component)
        if known is not component and _canonical(known.element) != _canonical(component.element):
            raise Malformed("import-schema-conflict")

    def _rewritten(self, source: _Element, namespace: str, form: _Form, *, is_chameleon: bool) -> _Component:
        """A copy whose meaning no longer depends on the document around it.

        Written anew, element by element: a copied one brings prefixes of its own that could hide those of the bundle.
        """
        copy = etree.Element(source.tag, nsmap={"xs": XS})
        refers_to: set[Symbol] = set()
        lets_in: set[str] = set()
        rest = [(source, copy)]
        while rest:
            original, node = rest.pop()
            for attribute, text in original.attrib.items():
                if not str(attribute).startswith("{"):  # wsdl:arrayType, hints of tools: nothing that a schema needs
                    node.set(attribute, text)
            scope: dict[str | None, str] = dict(original.nsmap)
            if is_chameleon:
                scope.setdefault(None, namespace)
            refers_to.update(self._point_anew(node, scope))
            if node is not copy:
                self._set_form(node, namespace, form)
            if node.tag in _WILDCARDS and node.get("processContents") != "skip":
                lets_in.add(_WILDCARDS[str(node.tag)])
            for child in original.iterchildren(f"{{{XS}}}*"):
                if child.tag == f"{{{XS}}}documentation":
                    etree.SubElement(node, str(child.tag)).text = " ".join("".join(map(str, child.itertext())).split())
                elif child.tag != f"{{{XS}}}appinfo":
                    rest.append((child, etree.SubElement(node, str(child.tag))))
        return _Component(element=copy, refers_to=frozenset(refers_to), lets_in=frozenset(lets_in))

    def _point_anew(self, node: _Element, scope: Mapping[str | None, str]) -> Iterator[Symbol]:
        """Give the node's references the bundle's prefixes; yield what they refer to outside XML Schema itself."""
        kind = _KINDS.get(str(node.tag), "")
        for attribute in ("type", "base", "itemType", "substitutionGroup", "ref", "memberTypes", "refer"):
            text = node.get(attribute)
            if text is None:
                continue
            names = [self._resolve(word, scope) for word in text.split()]
            node.set(attribute, " ".join(self._written(name) for name in names))
            pointed = _POINTING.get(attribute, "type" if attribute == "memberTypes" else kind)
            if pointed and attribute != "refer":
                yield from ((pointed, name) for name in names if _namespace(name) != XS)
        path = node.get("xpath")
        if path is not None:
            node.set("xpath", _PREFIXED.sub(lambda found: self._path_prefix(found[1], scope), path))

    def _resolve(self, word: str, scope: Mapping[str | None, str]) -> str:
        prefix, _, local = word.rpartition(":")
        if prefix == "xml":
            return f"{{{_XML}}}{local}"
        namespace = scope.get(prefix or None)
        if namespace is None and prefix:
            raise Malformed("import-not-a-schema")
        return f"{{{namespace}}}{local}" if namespace else local

    def _written(self, name: str) -> str:
        namespace = _namespace(name)
        return f"{self._prefix(namespace)}:{name.rpartition('}')[2]}" if namespace else name

    def _path_prefix(self, prefix: str, scope: Mapping[str | None, str]) -> str:
        if prefix not in scope:
            raise Malformed("import-not-a-schema")
        return f"{self._prefix(scope[prefix])}:"

    def _prefix(self, namespace: str) -> str:
        if namespace not in self._prefixes:
            self._prefixes[namespace] = f"n{next(self._numbers)}"
        return self._prefixes[namespace]

    def _set_form(self, node: _Element, namespace: str, form: _Form) -> None:
        """Say of a local declaration what its document said of all, where the bundle's schema says something else."""
        if "name" not in node.attrib or "form" in node.attrib:
            return
        said = self._forms[namespace]
        if node.tag == f"{{{XS}}}element" and form.elements != said.elements:
            node.set("form", form.elements)
        if node.tag == f"{{{XS}}}attribute" and form.attributes != said.attributes:
            node.set("form", form.attributes)

    # Putting together

    def _reachable(self, roots: list[Symbol]) -> set[Symbol]:
        """What the roots refer to, and what may stand in for it: members of substitution groups, derived types."""
        unsound, stand_ins = self._unsound, self._stand_ins
        found: set[Symbol] = set()
        rest = list(roots)
        while rest:
            symbol = rest.pop()
            if symbol in found or _namespace(symbol[1]) == _XML:
                continue
            if symbol in unsound or symbol not in self._components:
                raise Malformed("import-schema-missing")
            component = self._components[symbol]
            found.add(symbol)
            rest += component.refers_to
            rest += (other for other in stand_ins.get(symbol, ()) if other not in unsound)
            if component.lets_in:
                rest += (other for other in self._components if other[0] in component.lets_in and other not in unsound)
        return found

    @cached_property
    def _unsound(self) -> set[Symbol]:
        """What is missing, and all that needs it."""
        users: dict[Symbol, list[Symbol]] = {}
        for symbol, component in self._components.items():
            for used in component.refers_to:
                users.setdefault(used, []).append(symbol)
        unsound: set[Symbol] = set()
        rest = [symbol for symbol in users if symbol not in self._components and _namespace(symbol[1]) != _XML]
        while rest:
            symbol = rest.pop()
            if symbol not in unsound:
                unsound.add(symbol)
                rest += users.get(symbol, ())
        return unsound

    @cached_property
    def _stand_ins(self) -> Mapping[Symbol, list[Symbol]]:
        """By type or element: the types derived from it, the elements of its substitution group."""
        found: dict[Symbol, list[Symbol]] = {}
        for symbol, component in self._components.items():
            said = {node.get("base") for path in _DERIVATIONS for node in component.element.iterfind(path)}
            said.add(component.element.get("substitutionGroup"))
            kind = symbol[0]
            for head in component.refers_to:
                if head[0] == kind and self._written(head[1]) in said:
                    found.setdefault(head, []).append(symbol)
        return found

    def _schema(self, namespace: str, members: list[Symbol]) -> _Element:
        referred = (name for symbol in members for _, name in self._components[symbol].refers_to)
        needed = {namespace, *map(_namespace, referred)}
        # An identity constraint's path may name what nothing refers to; all prefixes are bound, few are used.
        bound = {prefix: uri for uri, prefix in self._prefixes.items() if prefix != "xml"}
        schema = etree.Element(f"{{{XS}}}schema", nsmap=dict(bound))
        if namespace:
            schema.set("targetNamespace", namespace)
        form = self._forms[namespace]
        schema.set("elementFormDefault", form.elements)
        schema.set("attributeFormDefault", form.attributes)
        for other in sorted(needed - {namespace}):
            imported = etree.SubElement(schema, f"{{{XS}}}import")
            if other:
                imported.set("namespace", other)
        schema.extend(deepcopy(self._components[symbol].element) for symbol in members)
        return schema


def _namespace(name: str) -> str:
    return name[1:].partition("}")[0] if name.startswith("{") else ""


def _canonical(element: _Element) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=True, with_comments=False)
