"""Data on the way in: conversion, checks, starters."""
