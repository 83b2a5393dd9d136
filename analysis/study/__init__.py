"""The paper's claims and tables over models and videos."""
