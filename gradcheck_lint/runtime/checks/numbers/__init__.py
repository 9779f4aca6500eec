"""What the numbers say: the loss, the gradients, and what the steps make of them."""
