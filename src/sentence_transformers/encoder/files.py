"""Saving a model into a folder and uploading it to the hub: what users call.

How a folder is written stands in `saving.py`, what the card says in `model_card/`.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from sentence_transformers.encoder.saving import installed_versions, publish, save_model

logger = logging.getLogger(__name__)


class FilesMixin:
    """`save`, `push_to_hub` and their other names, for a model with modules and settings."""

    # What a model has.
    model_type: str
    prompts: dict[str, str]
    default_prompt_name: str | None
    module_kwargs: Any
    named_children: Callable[..., Any]
    model_card_data: Any

    def _config_to_save(self) -> dict[str, Any]:
        """The settings that are saved with the model."""
        return {
            "__version__": installed_versions(),
            "model_type": self.model_type,
            "prompts": self.prompts,
            "default_prompt_name": self.default_prompt_name,
        }

    def save(
        self,
        path: str,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Save the model into a folder that every release can load.

        Args:
            path: The folder; made if need be. It changes only once everything has been written.
            model_name: Name of the model on its card.
            create_model_card: Write a README.md about the model.
            train_datasets: Names of data sets for the card.
            safe_serialization: True for safetensors, False for PyTorch's own format.
        """
        if path is None:
            raise ValueError("path=None: pass the folder to save the model into.")
        save_model(
            path,
            OrderedDict(self.named_children()),
            module_kwargs=self.module_kwargs,
            config=self._config_to_save(),
            card=self._card(path, model_name, train_datasets) if create_model_card else None,
            safe_serialization=safe_serialization,
        )

    def save_pretrained(
        self,
        path: str,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Save the model; another name of `save`."""
        self.save(path, model_name, create_model_card, train_datasets, safe_serialization)

    def _card(self, path: str, model_name: str | None, train_datasets: list[str] | None) -> str | None:
        """Text of the model card; None if it could not be written."""
        from sentence_transformers.model_card.card import generate_model_card
        from sentence_transformers.model_card.model_facts import best_effort

        data = self.model_card_data
        if model_name and not data.model_name:
            data.model_name = model_name
            if "/" in model_name and hasattr(data, "set_model_id"):
                data.set_model_id(model_name)
        if train_datasets:
            data.train_datasets = data.train_datasets or data.validate_datasets(train_datasets)
        del path
        return best_effort(generate_model_card, self)

    def push_to_hub(
        self,
        repo_id: str,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model to the hub.

        Args:
            repo_id: Name of the repository, such as "owner/model"; made if need be.
            token: Access token; None for the one that is logged in.
            private: Whether a new repository is private.
            safe_serialization: True for safetensors, False for PyTorch's own format.
            commit_message: Message of the commit.
            local_model_path: Upload this folder as it is, instead of saving the model.
            exist_ok: Whether the repository may exist already.
            replace_model_card: Write the card anew even if the repository has one.
            train_datasets: Names of data sets for the card.
            revision: Branch to commit to.
            create_pr: Open a pull request instead of committing.

        Returns:
            Address of the commit, or of the pull request.
        """
        return publish(
            self,
            repo_id,
            token=token,
            private=private,
            safe_serialization=safe_serialization,
            commit_message=commit_message,
            local_model_path=local_model_path,
            exist_ok=exist_ok,
            replace_model_card=replace_model_card,
            train_datasets=train_datasets,
            revision=revision,
            create_pr=create_pr,
        )

    def save_to_hub(
        self,
        repo_id: str,
        organization: str | None = None,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str = "Add new model.",
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
    ) -> str:
        """Deprecated; use `push_to_hub`. `organization` is put in front of a name without an owner."""
        logger.warning("save_to_hub is deprecated and will go; use push_to_hub.")
        if organization:
            owner, _, name = repo_id.rpartition("/")
            if owner not in ("", organization):
                raise ValueError(
                    f"organization={organization!r} contradicts repo_id={repo_id!r}. Leave it out."
                )
            repo_id = f"{organization}/{name}"
        return self.push_to_hub(
            repo_id=repo_id,
            token=token,
            private=private,
            safe_serialization=safe_serialization,
            commit_message=commit_message,
            local_model_path=local_model_path,
            exist_ok=exist_ok,
            replace_model_card=replace_model_card,
            train_datasets=train_datasets,
        )
