"""What `huggingface_hub` raises, as errors that a user can mend."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from mmtx.errors import UserError
from mmtx.hub.address import Address


@contextmanager
def as_user_errors(address: Address) -> Iterator[None]:
    """Within, an error of the hub, or on the way to it, becomes one line.

    Raises:
        UserError: in its place, or where `huggingface_hub` is not installed.
    """
    if find_spec("huggingface_hub") is None:
        raise UserError(f"{address} needs huggingface_hub: pip install 'mmtx[hub]'")
    from huggingface_hub import errors

    try:
        yield
    except UserError:
        raise
    except (errors.HTTPError, OSError, ValueError) as error:
        raise UserError(f"{address}: {_problem(error, address)}") from None


def _problem(error: Any, address: Address) -> str:
    from huggingface_hub import constants, errors, get_token

    hub, page = constants.ENDPOINT, f"{constants.ENDPOINT}/{address.repository}"
    token = (
        "the token at hand may not" if get_token() else "there is no token that may: HF_TOKEN=..., or `hf auth login`"
    )
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"HF_HUB_OFFLINE is set, and HF_HOME={constants.HF_HOME} does not hold it whole; unset it once"
    if isinstance(error, errors.GatedRepoError):
        return f"is gated: accept its terms at {page}, and read it with a token; {token}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no such repository at {hub}, or it is private, and {token} read it"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision '{address.revision}'; name one of {page}/tree/main"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"{hub} refuses access ({status}), as {token} do this"
    first = next(iter(str(getattr(error, "server_message", None) or error).strip().splitlines()), type(error).__name__)
    if status is not None:
        return f"{hub} answers {status}: {first}"
    if isinstance(error, errors.HTTPError):
        return f"{hub} cannot be reached ({first}); check the network and HF_ENDPOINT, or try again"
    return first
