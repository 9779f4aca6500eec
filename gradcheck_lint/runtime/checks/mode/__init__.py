"""What is switched on and off: training and evaluation mode, grad mode, freezing, autocast."""
