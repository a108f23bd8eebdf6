"""The operations that a SavedModel may hold: arithmetic, shapes, control flow, own variables."""

from __future__ import annotations

_MATH = """
Abs AccumulateNV2 Acos Acosh Add AddN AddV2 All Angle Any ApproxTopK ApproximateEqual ArgMax
ArgMin Asin Asinh Atan Atan2 Atanh BatchMatMul BatchMatMulV2 BatchMatMulV3 BiasAdd BiasAddV1
BitwiseAnd BitwiseOr BitwiseXor Bucketize Cast Ceil ClipByValue Complex ComplexAbs Conj
ConjugateTranspose Cos Cosh Cross Cumprod Cumsum CumulativeLogsumexp Diag DiagPart Div DivNoNan
Einsum Elu Equal Erf Erfc Erfinv EuclideanNorm Exp Expm1 Floor FloorDiv FloorMod Greater
GreaterEqual Imag InTopK InTopKV2 Inv Invert IsFinite IsInf IsNan L2Loss LRN LeakyRelu LeftShift
Less LessEqual Lgamma Log Log1p LogSoftmax LogicalAnd LogicalNot LogicalOr MatMul MatrixBandPart
MatrixDeterminant MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixDiagV2
MatrixDiagV3 MatrixInverse MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MatrixSolve
MatrixTriangularSolve Max Maximum Mean Min Minimum Mod Mul MulNoNan Neg NotEqual NthElement Pow
Prod Range Real RealDiv Reciprocal Relu Relu6 RightShift Rint Round Rsqrt Selu Sigmoid Sign Sin
Sinh Softmax Softplus Softsign Sqrt Square SquaredDifference Sub Sum Tan Tanh TopK TopKV2
TruncateDiv TruncateMod Xdivy Xlog1py Xlogy
"""
_LAYERS = """
AdjustContrastv2 AdjustHue AdjustSaturation AvgPool AvgPool3D BatchNormWithGlobalNormalization
BatchToSpace BatchToSpaceND Conv Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2
CropAndResize DataFormatDimMap DataFormatVecPermute DepthToSpace DepthwiseConv2dNative Dilation2D
ExtractImagePatches FakeQuantWithMinMaxArgs FakeQuantWithMinMaxVars
FakeQuantWithMinMaxVarsPerChannel FFT FFT2D FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3
FusedPadConv2D HSVToRGB IFFT IFFT2D IRFFT IRFFT2D ImageProjectiveTransformV2
ImageProjectiveTransformV3 MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax NonMaxSuppressionV3
NonMaxSuppressionV4 NonMaxSuppressionV5 CombinedNonMaxSuppression QuantizeAndDequantizeV2
QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 RFFT RFFT2D RGBToHSV ResizeArea ResizeBicubic
ResizeBilinear ResizeNearestNeighbor ScaleAndTranslate SpaceToBatch SpaceToBatchND SpaceToDepth
"""
_SHAPES = """
Bitcast BroadcastArgs BroadcastTo Concat ConcatOffset ConcatV2 Const DynamicPartition
DynamicStitch EnsureShape ExpandDims Fill Gather GatherNd GatherV2 Identity IdentityN
InvertPermutation LinSpace ListDiff LowerBound MirrorPad OneHot OnesLike Pack Pad PadV2
ParallelDynamicStitch Placeholder PlaceholderV2 PlaceholderWithDefault PreventGradient Rank
Reshape Reverse ReverseSequence ReverseV2 Roll ScatterNd SegmentMax SegmentMean SegmentMin
SegmentProd SegmentSum Select SelectV2 Shape ShapeN Size Slice Snapshot Split SplitV Squeeze
StopGradient StridedSlice StringLength TensorScatterAdd TensorScatterMax TensorScatterMin
TensorScatterSub TensorScatterUpdate TensorStridedSliceUpdate Tile Transpose Unique UniqueV2
Unpack UnravelIndex UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
UpperBound Where ZerosLike
"""
_FLOW = """
Assert Case ControlTrigger EmptyTensorList Enter Exit FakeParam If LoopCond Merge NextIteration
NoOp PartitionedCall StatefulPartitionedCall StatelessCase StatelessIf StatelessWhile Switch
TensorListConcatV2 TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
TensorListLength TensorListPopBack TensorListPushBack TensorListReserve TensorListResize
TensorListScatterIntoExistingList TensorListScatterV2 TensorListSetItem TensorListSplit
TensorListStack While
"""
_VARIABLES = """
AssignAddVariableOp AssignSubVariableOp AssignVariableOp DestroyResourceOp DisableCopyOnRead
ReadVariableOp ResourceGather ResourceGatherNd VarHandleOp VarIsInitializedOp VariableShape
"""

PURE = frozenset(" ".join((_MATH, _LAYERS, _SHAPES, _FLOW, _VARIABLES)).split())
# Every SavedModel has these outside its signature, where it says how its own variables are stored.
SAVER = frozenset(
    (
        "MergeV2Checkpoints",
        "RestoreV2",
        "SaveV2",
        "ShardedFilename",
        "StaticRegexFullMatch",
        "StringJoin",
    )
)
RESTORER = SAVER - {"MergeV2Checkpoints", "SaveV2"}  # those of them that write no file
# Random numbers of a seed: harmless to load; whether a vector comes of them is seen once the graph
# is cut.
SEEDED = frozenset(
    (
        "StatelessRandomGetAlg", "StatelessRandomGetKeyCounter", "StatelessRandomGetKeyCounterAlg",
        "StatelessRandomNormalV2", "StatelessRandomUniformFullIntV2", "StatelessRandomUniformIntV2",
        "StatelessRandomUniformV2", "StatelessTruncatedNormalV2",
    )
)  # fmt: skip
