"""Interventions: a pass is changed at named sites, and what that does to the answer; ablation is one use of it."""
