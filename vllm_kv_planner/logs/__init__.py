"""What a vLLM engine said when it started: its log, read into figures. No planning here."""
