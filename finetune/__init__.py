"""Which pretrained model, and how to finetune it."""
