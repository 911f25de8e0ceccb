"""What does the same step cost in Lightning, in Accelerate and in the Hugging Face Trainer?

Fabric and Accelerate wrap the hand-written loop, and take the same batches from memory as it does. The two
trainers get what their manuals would have a user write for data in memory: a module or a model with a loss, a data
loader without processes, no progress bar, no checkpoints, the loss logged as TensorBoard events every 10 steps. They
shuffle in their own order, so their weights differ from those of the hand-written loop.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.benchmarks.loops import LOG_EVERY, RATE, AfterStep, in_order
from tests.benchmarks.workloads import Work


class Prepared(nn.Module):
    """A network on what is in memory, with the preprocessing of the hand-written loop and its loss."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.network, self._work = work.bare(), work

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self._work.logits(self.network, inputs)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


def by_fabric(work: Work, folder: Path, after_step: AfterStep) -> nn.Module:
    """Lightning Fabric: the hand-written loop, with its wrappers."""
    import lightning as L

    fabric = L.Fabric(accelerator="cpu", devices=1)
    prepared = Prepared(work)
    model, optimizer = fabric.setup(prepared, torch.optim.AdamW(prepared.parameters(), RATE, weight_decay=0))
    for inputs, labels in in_order(work):
        fabric.backward(model(inputs, labels)["loss"])
        if work.clip is not None:
            fabric.clip_gradients(model, optimizer, max_norm=work.clip)
        optimizer.step()
        optimizer.zero_grad()
        after_step()
    return prepared.network


def by_accelerate(work: Work, folder: Path, after_step: AfterStep) -> nn.Module:
    """Accelerate: the hand-written loop, with its wrappers."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    prepared = Prepared(work)
    rule = torch.optim.AdamW(prepared.parameters(), RATE, weight_decay=0)
    model, optimizer = accelerator.prepare(prepared, rule)
    for inputs, labels in in_order(work):
        accelerator.backward(model(inputs, labels)["loss"])
        if work.clip is not None:
            accelerator.clip_grad_norm_(model.parameters(), work.clip)
        optimizer.step()
        optimizer.zero_grad()
        after_step()
    return prepared.network


def by_lightning(work: Work, folder: Path, after_step: AfterStep) -> nn.Module:
    """Lightning's Trainer."""
    import lightning as L
    from lightning.pytorch.loggers import TensorBoardLogger

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.prepared = Prepared(work)

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss: Tensor = self.prepared(*batch)["loss"]
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), RATE, weight_decay=0)

    class Turn(L.Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            after_step()

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = Module()
        trainer = L.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=TensorBoardLogger(str(folder)), callbacks=[Turn()],
            log_every_n_steps=LOG_EVERY, gradient_clip_val=work.clip, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(TensorDataset(*work.tensors()), batch_size=work.batch, shuffle=True))
    return module.prepared.network


def by_hf_trainer(work: Work, folder: Path, after_step: AfterStep) -> nn.Module:
    """The Trainer of transformers."""
    from plait.libraries import transformers

    library: Any = transformers()  # it imports beside a torchaudio that does not fit this torch

    class Turn(library.TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            after_step()

    def collate(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        return {"inputs": torch.stack([row[0] for row in rows]), "labels": torch.stack([row[1] for row in rows])}

    model = Prepared(work)
    arguments = library.TrainingArguments(
        output_dir=str(folder), use_cpu=True, num_train_epochs=1, per_device_train_batch_size=work.batch,
        weight_decay=0.0, optim="adamw_torch", learning_rate=RATE, lr_scheduler_type="constant",
        max_grad_norm=work.clip or 0.0, logging_steps=LOG_EVERY, report_to=["tensorboard"], save_strategy="no",
        disable_tqdm=True, remove_unused_columns=False,
    )  # fmt: skip
    data = TensorDataset(*work.tensors())
    trainer = library.Trainer(
        model=model, args=arguments, train_dataset=data, data_collator=collate, callbacks=[Turn()]
    )
    trainer.remove_callback(library.PrinterCallback)
    trainer.train()
    return model.network
