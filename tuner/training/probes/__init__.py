"""Linear probes of what frozen backbones give before anything is trained, and labels that they doubt."""
