"""An invitation: the one small file with which a site joins a federation.

It says where the server is, which authority signed the server's certificate, and who the site is,
with the site's private key: whoever has the file is the site, so it is readable by its owner alone.
"""

import tomllib
from pathlib import Path

import tomli_w
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from common.config.images import kebab
from common.config.options import one_line
from common.utils.errors import UserError
from deploy.identity.address import Address
from deploy.identity.certificates import check_site_name, write_private

HEAD = """\
# An invitation to a Covey federation. It holds the private key of the site: keep it to yourself.
# Join with: covey client join THIS-FILE --data FOLDER

"""


class Invitation(BaseModel):
    """What a site needs: `address` (HOST:PORT), `site` (its name), `authority` (certificate, PEM)
    and `private_key` (EC, OpenSSH's format, which holds the public key too)."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=kebab, populate_by_name=True
    )

    address: str
    site: str
    authority: str
    private_key: str

    @field_validator("address")
    @classmethod
    def _check_address(cls, value: str) -> str:
        return str(Address.parse(value))

    @field_validator("site")
    @classmethod
    def _check_site(cls, value: str) -> str:
        return check_site_name(value)

    @field_validator("authority")
    @classmethod
    def _check_authority(cls, value: str) -> str:
        x509.load_pem_x509_certificate(value.encode())
        return value

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The site's private key; `UserError` where it is none."""
        try:
            key = serialization.load_ssh_private_key(self.private_key.encode(), None)
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise UserError(f"the invitation of {self.site!r} has no usable private key")
        return key

    def write(self, path: Path) -> None:
        """Write the file with mode 600; `UserError` where there is one."""
        if path.exists():
            raise UserError(f"there is a file {path} already")
        if not path.parent.is_dir():
            raise UserError(f"there is no folder {path.parent}")
        content = tomli_w.dumps(self.model_dump(by_alias=True), multiline_strings=True)
        write_private(path, (HEAD + content).encode())

    @classmethod
    def read(cls, path: Path) -> "Invitation":
        """The inverse of `write`; `UserError` where the file is no invitation."""
        try:
            invitation = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"cannot read the invitation {path}: {error.strerror}") from None
        except ValidationError as error:
            raise UserError(f"{path} is no invitation: {complaint(error)}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):
            raise UserError(f"{path} is no invitation, or is damaged") from None
        _ = invitation.key  # checked now rather than when the SuperNode reads it
        return invitation


def complaint(error: ValidationError) -> str:
    """The first complaint as one line, without the value that it is about: that may be a key."""
    cause = error.errors()[0].get("ctx", {}).get("error")
    return str(cause) if isinstance(cause, UserError) else one_line(error).partition(" (got ")[0]
