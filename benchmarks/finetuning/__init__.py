"""Finetuning: which model to finetune next, from learning curves."""
