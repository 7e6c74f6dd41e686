"""The computation graph: nodes, the op table, gradients, fusion, lowering to native plans."""
