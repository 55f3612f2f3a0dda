"""What a trained model is worth: bounds, the use of its bits, its errors, and the errors of its code on a channel."""
