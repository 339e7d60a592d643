"""Environments for any task and any agent"""
