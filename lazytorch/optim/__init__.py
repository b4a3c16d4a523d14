"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from lazytorch.optim import lr_scheduler
from lazytorch.optim.adagrad import Adagrad
from lazytorch.optim.adam import Adam, AdamW
from lazytorch.optim.optimizer import Optimizer
from lazytorch.optim.rmsprop import RMSprop
from lazytorch.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
