"""Learning curves of real fine-tuning, measured by the product: tables that searches are simulated on."""
