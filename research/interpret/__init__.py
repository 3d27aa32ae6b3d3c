"""What a model looks at: attention, gradients, and pages of them."""
