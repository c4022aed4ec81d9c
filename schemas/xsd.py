"""The text of an XSD: one ``xs:schema``, or a bundle of several in a ``wsdl:types`` element.

A WSDL describes its messages with several schemas that import one another by namespace, so a bundle is what its
``types`` element holds. An import is resolved inside the bundle by its namespace alone; the location that it names is
never looked at. Nothing is fetched, whoever compiles the schemas: libxml2 asks a resolver that knows the bundle and
refuses everything else, xmlschema is told to open nothing.

Pure functions and a frozen value, safe from many threads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lxml import etree

from schemas.codec import read_xml
from schemas.problem import Malformed

if TYPE_CHECKING:
    from lxml.etree import _Element
    from xmlschema import XMLSchema10

#: libxml2 spends memory for each counted repeat of a content model.
MAX_OCCURS: Final = 10_000
#: The largest WSDL known here (a bank's) has 40.
MAX_SCHEMAS: Final = 100
XS_NS: Final = "http://www.w3.org/2001/XMLSchema"
TYPES: Final = "{http://schemas.xmlsoap.org/wsdl/}types"
XML_NS: Final = "http://www.w3.org/XML/1998/namespace"
_XS: Final = f"{{{XS_NS}}}"

#: The attributes of the ``xml`` prefix, which schemas import and libxml2 does not know by itself (XML 1.0, 2.10, 2.12).
_XML_ATTRIBUTES: Final = f"""<xs:schema xmlns:xs="{XS_NS}" targetNamespace="{XML_NS}">
<xs:attribute name="lang"><xs:simpleType><xs:union memberTypes="xs:language"><xs:simpleType>
<xs:restriction base="xs:string"><xs:enumeration value=""/></xs:restriction></xs:simpleType></xs:union></xs:simpleType>
</xs:attribute>
<xs:attribute name="space"><xs:simpleType><xs:restriction base="xs:NCName"><xs:enumeration value="default"/>
<xs:enumeration value="preserve"/></xs:restriction></xs:simpleType></xs:attribute>
<xs:attribute name="base" type="xs:anyURI"/><xs:attribute name="id" type="xs:ID"/>
<xs:attributeGroup name="specialAttrs"><xs:attribute ref="xml:base"/><xs:attribute ref="xml:lang"/>
<xs:attribute ref="xml:space"/><xs:attribute ref="xml:id"/></xs:attributeGroup></xs:schema>""".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class XsdBundle:
    """The schemas of an XSD text, linted, and without any location that a reader could follow."""

    #: Each schema as a document of its own, with its target namespace ("" if it has none), in the order given.
    documents: tuple[tuple[str, bytes], ...]
    #: Its global elements, as ``{namespace}name`` (``name`` where there is no namespace), in the order given.
    elements: tuple[str, ...]
    #: Every name that the schemas give: what may be told of a place in a document.
    names: frozenset[str]

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The target namespaces, each once, in the order given."""
        return tuple(dict.fromkeys(namespace for namespace, _ in self.documents))


def read_xsd(text: bytes) -> XsdBundle:
    """The schemas of an XSD text, checked for what is dangerous; not yet compiled.

    Raises Malformed: ``xsd-invalid`` (neither a schema nor a ``wsdl:types`` of schemas), ``schema-remote-reference``
    (an include, redefine or override, or an import of a namespace that is not in the bundle), ``xsd-occurrence-bound``,
    ``schema-pattern-unsafe``, or a reason of :func:`schemas.codec.read_xml`.
    """
    root = read_xml(text)
    schemas = [child for child in root if isinstance(child.tag, str)] if root.tag == TYPES else [root]
    if not 1 <= len(schemas) <= MAX_SCHEMAS or any(schema.tag != _XS + "schema" for schema in schemas):
        raise Malformed("xsd-invalid")
    known = {schema.get("targetNamespace", "") for schema in schemas} | {XS_NS, XML_NS}
    for schema in schemas:
        _lint(schema, known)
    return XsdBundle(
        documents=tuple((schema.get("targetNamespace", ""), _document(schema)) for schema in schemas),
        elements=tuple(name for schema in schemas for name in _global_elements(schema)),
        names=frozenset(name for schema in schemas for node in schema.iter("*") if (name := node.get("name"))),
    )


def _lint(schema: _Element, known: set[str]) -> None:
    """Refuse what a compiler would fetch or choke on."""
    for node in schema.iter("*"):
        if node.tag in _ELSEWHERE or (node.tag == _XS + "import" and node.get("namespace", "") not in known):
            raise Malformed("schema-remote-reference")
        if node.tag == _XS + "pattern" and _may_run_away(node.get("value", "")):
            raise Malformed("schema-pattern-unsafe")
        for bound in (node.get("minOccurs", ""), node.get("maxOccurs", "")):
            if bound.isdecimal() and (len(bound) > 9 or int(bound) > MAX_OCCURS):
                raise Malformed("xsd-occurrence-bound", max_occurs=MAX_OCCURS)


_ELSEWHERE: Final = frozenset(_XS + name for name in ("include", "redefine", "override"))


def _document(schema: _Element) -> bytes:
    """The schema alone, with the prefixes in whose scope it stood; its imports name a namespace and nothing more."""
    alone = read_xml(etree.tostring(schema, encoding="utf-8", with_tail=False))  # a copied element loses prefixes
    for node in alone.findall(_XS + "import"):
        node.attrib.pop("schemaLocation", "")
        if node.get("namespace") == XS_NS:  # built into every compiler, and libxml2 would look for it
            alone.remove(node)
    return etree.tostring(alone, encoding="utf-8", with_tail=False)


def _global_elements(schema: _Element) -> Iterator[str]:
    namespace = schema.get("targetNamespace", "")
    for node in schema.findall(_XS + "element"):
        yield f"{{{namespace}}}{node.get('name', '')}" if namespace else node.get("name", "")


# ---- Compiling with libxml2


def compile_with_libxml2(bundle: XsdBundle) -> etree.XMLSchema:
    """The schemas, compiled by libxml2; not to be used by two at once (its error log is shared state).

    Raises Malformed ``xsd-invalid``.
    """
    try:
        return etree.XMLSchema(_Located(bundle).entry())
    except (etree.XMLSchemaParseError, etree.XMLSyntaxError):
        raise Malformed("xsd-invalid") from None


class _Located(etree.Resolver):
    """Answers for the invented addresses that the imports of a bundle are given, and for nothing else.

    libxml2 wants an address for each import and takes one document for each namespace. So a namespace has the address
    ``lgsp:<place>``, and behind it the schema, or a schema that includes the several schemas of that namespace.
    """

    def __init__(self, bundle: XsdBundle) -> None:
        super().__init__()
        self._place = {namespace: f"lgsp:{n}" for n, namespace in enumerate((*bundle.namespaces, XML_NS))}
        self._texts = {self._place[XML_NS]: _XML_ATTRIBUTES}
        for namespace in bundle.namespaces:
            found = [text for target, text in bundle.documents if target == namespace]
            self._add(namespace, [self._with_places(text) for text in found])
        self._namespaces = bundle.namespaces

    def entry(self) -> _Element:
        """The root to compile: the only schema, or one that imports all."""
        if len(self._namespaces) == 1:
            return self._read(self._texts[self._place[self._namespaces[0]]])
        root = etree.Element(_XS + "schema", {"targetNamespace": "urn:lgsp:bundle"})
        for namespace in self._namespaces:
            self._import(root, namespace)
        return self._read(etree.tostring(root))

    def resolve(self, system_url: str, public_id: str, context: Any) -> Any:  # type: ignore[override]  # stubs lack it
        if system_url not in self._texts:
            raise ValueError  # refuses the fetch; lxml reports it as a schema that cannot be parsed
        return self.resolve_string(self._texts[system_url], context, base_url=system_url)

    def _add(self, namespace: str, texts: list[bytes]) -> None:
        place = self._place[namespace]
        if len(texts) == 1:
            self._texts[place] = texts[0]
            return
        whole = etree.Element(_XS + "schema", {"targetNamespace": namespace} if namespace else {})
        for n, text in enumerate(texts):
            etree.SubElement(whole, _XS + "include", {"schemaLocation": f"{place}.{n}"})
            self._texts[f"{place}.{n}"] = text
        self._texts[place] = etree.tostring(whole)

    def _with_places(self, text: bytes) -> bytes:
        root = read_xml(text)
        for node in root.findall(_XS + "import"):
            node.set("schemaLocation", self._place[node.get("namespace", "")])
        return etree.tostring(root, encoding="utf-8")

    def _import(self, root: _Element, namespace: str) -> None:
        names = {"namespace": namespace} if namespace else {}
        etree.SubElement(root, _XS + "import", {**names, "schemaLocation": self._place[namespace]})

    def _read(self, text: bytes) -> _Element:
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        parser.resolvers.add(self)
        return etree.fromstring(text, parser)


# ---- Reading with xmlschema


def open_with_xmlschema(bundle: XsdBundle) -> XMLSchema10:
    """The schemas as components of the xmlschema library, which is slower and stricter than libxml2.

    Costs a second and 40 MB the first time: only for registration. Raises Malformed ``xsd-invalid``.
    """
    from xmlschema import XMLSchema10, XMLSchemaException

    texts = [text.decode("utf-8-sig") for _, text in bundle.documents]
    try:
        schema = XMLSchema10(texts[0], allow="none", defuse="always", use_fallback=False, build=False)
        for text in texts[1:]:
            schema.add_schema(text, build=False)
        schema.build()
    except (XMLSchemaException, RecursionError, ValueError, KeyError):
        raise Malformed("xsd-invalid") from None
    return schema


# ---- Patterns


_CLASS_OR_ESCAPE: Final = re.compile(r"\\[pP]\{[^}]*\}|\[(?:\\.|[^\]\\])*\]|\\[a-zA-Z]|\.")
_INNERMOST_GROUP: Final = re.compile(r"\(([^()]*)\)([+*?]|\{[0-9,]*\})?")
_SEPARATOR: Final = re.compile(r"\\?([-,;:/_#@])")
_VARIABLE: Final = re.compile(r"[+*?{]")


def _may_run_away(pattern: str) -> bool:
    """Could libxml2, which backtracks, try exponentially many ways to match? Errs on the side of yes.

    A group repeated without bound is safe when it has one length (``([A-Z]|[0-9])+``), or when each turn begins with a
    separator that it has nowhere else (``[A-Z]+(-[A-Z]+)*``). Groups are judged from the inside out.
    """
    in_classes = "".join(re.sub(r"(\w)-(\w)", r"\1\2", found) for found in _CLASS_OR_ESCAPE.findall(pattern))
    flat = _CLASS_OR_ESCAPE.sub("x", pattern.replace("\\.", "\\#")).replace("\\(", "x").replace("\\)", "x")
    while group := _INNERMOST_GROUP.search(flat):
        body, repeat = group[1], group[2] or ""
        lengths = {len(branch.replace("\\", "")) for branch in body.split("|")}
        varies = len(lengths) > 1 or _VARIABLE.search(body) is not None
        unbounded = repeat in ("+", "*") or len(repeat) > 3 or repeat.endswith(",}")
        begins = _SEPARATOR.match(body)
        separated = begins and body.count(begins[1]) == 1 and begins[1] not in in_classes and "|" not in body
        if unbounded and varies and not separated:
            return True
        flat = flat[: group.start()] + ("x+" if varies or repeat else "x" * len(body)) + flat[group.end() :]
    return False
