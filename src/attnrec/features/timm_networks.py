"""timm's networks, there with the extra `timm`: features by a network's own `forward_features`."""

import difflib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from attnrec.errors import ConfigError
from attnrec.files import reason_of

PREFIX = "timm/"  # of the names of backbones


@dataclass(frozen=True)
class TimmNetwork:
    """A network of timm's and its published weights, with the methods of torchvision's weights used here."""

    name: str  # architecture and tag of the weights
    hub_id: str | None  # repository of the weights on Hugging Face
    image_size: int | None  # side in px of the frames, for networks that are built for one

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}"

    @property
    def url(self) -> str:
        """Address of the weights."""
        return f"https://huggingface.co/{self.hub_id}/resolve/main/model.safetensors"

    def build(self, *, pretrained: bool = False) -> nn.Module:
        """Build the network without its classifier; called, it gives its last map or tokens.

        Raises:
            ConfigError: timm cannot build it for frames of this size.
        """
        sized = {} if self.image_size is None else {"img_size": self.image_size}
        try:
            network: Any = _timm().create_model(self.name, pretrained=pretrained, num_classes=0, **sized)
        except (AssertionError, ValueError, TypeError) as error:
            raise ConfigError(f"--backbone {self}: cannot be built for frames of 224 px: {reason_of(error)}") from None
        network.forward = network.forward_features
        built: nn.Module = network
        return built

    def get_state_dict(self, *, progress: bool, check_hash: bool) -> dict[str, Tensor]:
        """Load the published weights, downloaded once by huggingface_hub into its cache.

        Raises:
            OSError: They cannot be downloaded.
        """
        if self.hub_id is None:
            raise OSError("timm has none")
        try:
            state: dict[str, Tensor] = self.build(pretrained=True).state_dict()
        except Exception as error:  # of any of the libraries that timm loads weights by
            raise OSError(reason_of(error)) from None
        return state


def timm_network(backbone: str, image_size: int) -> tuple[TimmNetwork, tuple[float, ...], tuple[float, ...]]:
    """A network of timm's by its name with `PREFIX`, for frames of a size, with its mean and standard deviation.

    Raises:
        ConfigError: timm is not installed, or has no such network.
    """
    timm, name = _timm(), backbone.removeprefix(PREFIX)
    try:
        # Only registered names: others could name files, or repositories to be downloaded.
        found = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # the network, but not with such weights
        found = None
    if found is None:
        near = difflib.get_close_matches(name, [*timm.list_models(), *timm.list_pretrained()])
        meant = f"did you mean {', '.join(near)}? " if near else ""
        raise ConfigError(f"--backbone {backbone}: unknown; {meant}timm.list_models() lists all of timm's")
    full = f"{found.architecture}.{found.tag}" if found.tag else found.architecture
    network = TimmNetwork(full, found.hf_hub_id, image_size if found.fixed_input_size else None)
    return network, tuple(found.mean), tuple(found.std)


def _timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError:
        raise ConfigError("--backbone timm/...: needs timm; pip install 'attnrec[timm]'") from None
    module: ModuleType = timm
    return module
