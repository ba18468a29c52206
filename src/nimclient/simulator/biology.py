"""What a structure NIM (Boltz-2) answers: a file of the right format whose atoms lie on a straight line."""

from typing import Any, Final

from .fields import Fields
from .rejections import bad_field
from .wire import PlainResponse

_KINDS: Final = ("protein", "dna", "rna")
_RISE: Final = 3.8  # Å from one residue to the next
_COLUMNS: Final = ("group_PDB", "id", "label_atom_id", "label_comp_id", "label_asym_id", "label_seq_id", "Cartn_x")


def structures(fields: Fields) -> PlainResponse:
    """One structure of the polymers, and its confidence."""
    polymers = fields.objects("polymers")
    if not polymers:
        raise fields.missing("polymers")
    chains = [_sequence(Fields(polymer, f"polymers.{at}")) for at, polymer in enumerate(polymers)]
    structure: dict[str, Any] = {"format": "mmcif", "name": "simulated", "structure": _mmcif(chains)}
    return PlainResponse(
        {"structures": [structure], "confidence_scores": [0.5], "metrics": {"residues": sum(map(len, chains))}}
    )


def _sequence(polymer: Fields) -> str:
    polymer.one_of("molecule_type", _KINDS)
    sequence = polymer.need_text("sequence")
    if not sequence.isascii() or not sequence.isalpha():
        raise bad_field(polymer.path("sequence"), "must be letters.")
    return sequence.upper()


def _mmcif(chains: list[str]) -> str:
    lines = ["data_simulated", "loop_", *(f"_atom_site.{name}" for name in _COLUMNS)]
    number = 0
    for at, chain in enumerate(chains):
        for place, residue in enumerate(chain):
            number += 1
            lines.append(f"ATOM {number} CA {residue} {chr(65 + at % 26)} {place + 1} {place * _RISE:.1f}")
    return "\n".join([*lines, "#", ""])
