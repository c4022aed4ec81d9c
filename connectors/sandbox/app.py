"""The sandbox: simulated partners that speak real HTTP, with a dial for what goes wrong.

::

    GET  /_sandbox                        twins, faults that are set, faults that happened
    GET  /_sandbox/<partner>              what the twin is, its named faults, its texts, faults that are set
    PUT  /_sandbox/<partner>/faults       see faults.py
    GET  /_sandbox/<partner>/state        what the twin has seen
    POST /_sandbox/<partner>/reset        forget it; sessions end too
    PUT  /_sandbox/<partner>/wording      replace answers' texts, {"exists": "Hồ sơ trùng"}

It is for one process with threads (its memory is its own) on an address that only testers reach: the dial has no login.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flask import Flask, Response, abort, jsonify, request

from connectors.sandbox import (
    business_registry,
    civil_status,
    criminal_record,
    driver_licence,
    edoc,
    generic,
    health_card,
    land,
    later,
    national_portal,
    national_portal_2025,
    one_stop,
    paygov,
    payment,
    petition,
    population,
    post,
    residence,
    result_store,
    sms,
    social_insurance,
    social_protection,
    tax,
    zalo,
)
from connectors.sandbox.about import calls_of, presets_of, what
from connectors.sandbox.credentials import open_credentials
from connectors.sandbox.faults import Dial, read_faults
from security.keys import KeyDirectory

#: Most bytes of one call to a twin; promotion notices carry files in base64 (P15).
MAX_CALL_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """What a sandbox is made with."""

    #: Made with mode 0600 when it is not there; see credentials.py.
    credentials_file: Path
    #: Life of sessions and tokens. The portal's is unknown; quarter of an hour makes clients meet its end.
    session_seconds: float = 900.0
    #: For faults by probability.
    seed: int = 1
    #: Texts of answers by twin, over the usual ones.
    wording: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    #: Senders' public keys, if the generic receiver shall check manifests.
    keys: KeyDirectory | None = None
    #: The twins to make; None: all.
    only: Collection[str] | None = None


class Twin(Protocol):
    """One simulated partner."""

    def register(self, app: Flask) -> None: ...

    def state(self) -> Mapping[str, Any]: ...

    def reset(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """The parts of a sandbox, for those who run it in their own process: ``app.extensions["sandbox"]``."""

    dial: Dial
    twins: Mapping[str, Twin]
    #: ``name:password`` by twin, or more parts in JSON; see credentials.py.
    credentials: Mapping[str, str]

    def close(self) -> None:
        self.dial.close()


_Wording = Mapping[str, str] | None
_Make = Callable[[Dial, str, SandboxConfig, _Wording], Twin]


def _with_sessions(twin: Callable[[Dial, str, float, _Wording], Twin]) -> _Make:
    return lambda dial, credential, config, wording: twin(dial, credential, config.session_seconds, wording)


def _plain(twin: Callable[[Dial, str, _Wording], Twin]) -> _Make:
    return lambda dial, credential, config, wording: twin(dial, credential, wording)


def _office(office: later.Office) -> _Make:
    return _with_sessions(partial(later.LaterTwin, office))


#: A new twin is a line here.
_TWINS: Mapping[str, _Make] = {
    national_portal.NAME: _with_sessions(national_portal.NationalPortalTwin),
    national_portal_2025.NAME: _with_sessions(national_portal_2025.NationalPortal2025Twin),
    result_store.NAME: _with_sessions(result_store.ResultStoreTwin),
    one_stop.NAME: _with_sessions(one_stop.OneStopTwin),
    business_registry.NAME: _with_sessions(business_registry.BusinessRegistryTwin),
    civil_status.NAME: _with_sessions(civil_status.CivilStatusTwin),
    edoc.NAME: _plain(edoc.EdocTwin),
    criminal_record.NAME: _with_sessions(criminal_record.CriminalRecordTwin),
    population.NAME: _plain(population.PopulationTwin),
    post.NAME: _with_sessions(post.PostTwin),
    land.NAME: _with_sessions(land.LandTwin),
    payment.NAME: _plain(payment.PaymentTwin),
    petition.NAME: _with_sessions(petition.PetitionTwin),
    driver_licence.NAME: _with_sessions(driver_licence.DriverLicenceTwin),
    sms.NAME: _with_sessions(sms.SmsTwin),
    social_protection.NAME: _with_sessions(social_protection.SocialProtectionTwin),
    social_insurance.NAME: _with_sessions(social_insurance.SocialInsuranceTwin),
    zalo.NAME: _with_sessions(zalo.ZaloTwin),
    paygov.NAME: _plain(paygov.PaygovTwin),
    **{office.name: _office(office) for office in (residence.OFFICE, health_card.OFFICE, tax.OFFICE)},
    generic.NAME: lambda dial, credential, config, _: generic.GenericTwin(dial, credential, config.keys),
}


def create_sandbox(config: SandboxConfig) -> Flask:
    """The WSGI application of the twins. Makes the credentials file when there is none."""
    credentials = open_credentials(config.credentials_file)
    dial = Dial(config.seed)
    twins = {
        name: make(dial, credentials[name], config, config.wording.get(name))
        for name, make in _TWINS.items()
        if config.only is None or name in config.only
    }
    app = Flask("lgsp-sandbox", static_folder=None)
    app.json.ensure_ascii = False  # type: ignore[attr-defined]  # the default provider has it
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.config["MAX_CONTENT_LENGTH"] = MAX_CALL_BYTES
    app.extensions["sandbox"] = Sandbox(dial=dial, twins=twins, credentials=credentials)
    for name, twin in twins.items():
        twin.register(app)
        dial.word(name, getattr(twin, "wording", {}))
    _add_controls(app, dial, twins)
    return app


def _add_controls(app: Flask, dial: Dial, twins: Mapping[str, Twin]) -> None:
    def named(partner: str) -> Twin:
        if partner not in twins:
            abort(404)
        return twins[partner]

    def listing() -> Response:
        return jsonify({"twins": list(twins), "faults": dial.shown(), "happened": dial.drawn()})

    def shown(partner: str) -> Response:
        texts = dict(getattr(named(partner), "wording", {}))
        presets = {name: asdict(preset) for name, preset in presets_of(partner).items()}
        about: dict[str, Any] = {"twin": partner, "what": what(partner), "calls": calls_of(app, partner)}
        about |= {"presets": presets, "wording": texts}
        return jsonify({**about, "faults": dial.shown().get(partner, [])})

    def set_faults(partner: str) -> Response | tuple[Response, int]:
        named(partner)
        try:
            dial.turn(partner, read_faults(request.get_json(silent=True, force=True), presets_of(partner)))
        except (ValueError, TypeError) as error:
            # Testers' own words come back here: the sandbox holds no one's data.
            return jsonify({"error": str(error)}), 400
        return jsonify(dial.shown().get(partner, []))

    def state(partner: str) -> Response:
        return jsonify(named(partner).state())

    def reset(partner: str) -> Response:
        twin = named(partner)
        twin.reset()
        sessions = getattr(twin, "sessions", None)
        if sessions is not None:
            sessions.end_all()
        return jsonify({"reset": partner})

    def set_wording(partner: str) -> Response | tuple[Response, int]:
        wording = getattr(named(partner), "wording", None)
        given = request.get_json(silent=True, force=True)
        if wording is None or not isinstance(given, dict) or not given.keys() <= wording.keys():
            return jsonify({"error": "known names with texts are expected"}), 400
        wording.update({name: str(text) for name, text in given.items()})
        return jsonify(wording)

    app.get("/_sandbox")(listing)
    app.get("/_sandbox/<partner>")(shown)
    app.put("/_sandbox/<partner>/faults")(set_faults)
    app.get("/_sandbox/<partner>/state")(state)
    app.post("/_sandbox/<partner>/reset")(reset)
    app.put("/_sandbox/<partner>/wording")(set_wording)
