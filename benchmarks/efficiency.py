"""How much of the machine one evaluation uses: FLOP/s of loss and gradient beside the peak of a matrix product.

    python benchmarks/efficiency.py [--sizes 512] [--rounds 15] [--out DIR] [--json]

One evaluation is what every step of the optimization does: features of the picture down to relu5_1, the five Gram
matrices, the losses, and the gradient with respect to the picture. Operations are counted from the layers' shapes, a
multiplication and an addition as two. Evaluations alternate with 2048 x 2048 products in the same precision, each
after a warm-up; the medians are set against each other, and the fastest product is given too. Accuracy is the cosine
between the gradients in bf16 and fp32 on the real pair, at the start and in the middle of the default recipe's way.
"""
