"""What fitting a head takes beneath the estimators: its Keras model, its optimiser, its held-out part, its export."""
